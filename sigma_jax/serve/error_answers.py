"""How an application answers what goes wrong, in the form of the interface that was asked."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from .errors import CLIENT_GONE, RequestError

ErrorForm = Callable[[Request, RequestError], dict[str, Any]]


def error_handlers(form: ErrorForm) -> Mapping[Any, Any]:
    """Starlette's handlers of all exceptions, answered with what `form` makes of the error."""

    def answer(request: Request, error: RequestError) -> Response:
        headers = {}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        if error.final:  # OpenAI's clients ask again at some of these statuses, unless told so
            headers["x-should-retry"] = "false"
        if error.status == 413:  # what has not been read of the body is not read
            headers["connection"] = "close"
        return JSONResponse(form(request, error), error.status, headers)

    async def answer_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)
        return answer(request, error)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        reasons = {404: "there is no such route", 405: "this route has no such method"}
        reason = reasons.get(error.status_code, error.detail)
        message = f"{reason}: {request.method} {request.url.path[:200]}"
        response = answer(request, RequestError(error.status_code, message))
        response.headers.update(error.headers or {})
        return response

    async def answer_gone(request: Request, error: Exception) -> Response:
        return answer(request, RequestError(CLIENT_GONE, "the client hung up."))

    async def answer_failure(request: Request, error: Exception) -> Response:
        return answer(request, RequestError(500, "the server failed; see its log."))

    return {
        RequestError: answer_error,
        HTTPException: answer_http,
        ClientDisconnect: answer_gone,
        Exception: answer_failure,
    }

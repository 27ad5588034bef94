"""What goes wrong with a request, and with which HTTP status it is answered."""

CLIENT_GONE = 499
"""Nobody reads this status; the metrics count it."""


class RequestError(Exception):
    """A request that cannot be answered as asked.

    **Arguments:** `status`, of HTTP; `message`, for whoever sent it; `field`, which field of the
    request is at fault; `code`, a short name in OpenAI's manner; `retry_after`, seconds after which
    it may be tried again; `final`, whether trying again is of no use although the status is one at
    which clients do.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        final: bool = False,
    ):
        super().__init__(message)
        self.status, self.message = status, message
        self.field, self.code, self.retry_after = field, code, retry_after
        self.final = final


def invalid(message: str, field: str | None = None, code: str | None = None) -> RequestError:
    """The error of a request that should have been another: status 400."""
    return RequestError(400, message, field=field, code=code)

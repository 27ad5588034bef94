"""Statements with something in them, and questions in other words; and talk that has nothing."""

import random

PLANTED = (
    ("My sister Ingrid moved to Trondheim last spring.", "In which city does Ingrid live?"),
    ("The staging database is called Heron.", "What did we name the database for staging?"),
    ("Our rollback window is 30 minutes.", "How long do we have to roll back?"),
    ("I'm allergic to peanuts and shellfish.", "Which foods must I avoid because of an allergy?"),
    ("The migration has to be finished by 9 June.", "When must the migration be done?"),
    ("Budget for the whole project is 40,000 euros.", "How much money may the project cost?"),
    ("The payment service listens on port 8443.", "What port does the payment service use?"),
    ("Customer invoices are kept for seven years.", "For how many years do we keep invoices?"),
    ("Anna signs off every change to the schema.", "Who approves schema changes?"),
    ("We use Redis for the session cache.", "What holds the cached sessions?"),
    ("My daughter plays the cello on Thursdays.", "Which instrument does my daughter play?"),
    ("The nightly backup runs at 02:15.", "At what time is the backup made at night?"),
    ("Legal wants all logs to stay in Frankfurt.", "Where do the logs have to stay?"),
    ("The old server has 64 GB of memory.", "How much memory is in the old server?"),
    ("I work at a hospital in Bergen as a nurse.", "What is my job at the hospital?"),
    ("Our biggest client is Nordlys Shipping.", "Who is the biggest of our clients?"),
    ("The staging password is rotated every Monday.", "How often is the password rotated?"),
    ("Tomas reviews the security patches.", "Who looks over security patches?"),
    ("The report should use metric units only.", "Which units belong in the report?"),
    ("My flight to Lisbon leaves at 6:40.", "When does the plane to Lisbon leave?"),
    ("We deploy from the branch called harbour.", "Which branch do deployments come from?"),
    (
        "The load balancer drops connections after 90 seconds.",
        "After how long are connections dropped?",
    ),
    ("I prefer green tea in the morning.", "What do I like to drink in the morning?"),
    ("The data centre is cooled with sea water.", "How is the data centre cooled?"),
    ("Error code 517 means that the disk is full.", "What does error 517 mean?"),
    ("Our test coverage target is 85 percent.", "What coverage do our tests have to reach?"),
    ("The intern's name is Wren Castellan.", "What is the intern called?"),
    ("Support tickets go to the queue named lantern.", "Into which queue do support tickets go?"),
    ("My car is a blue 1998 Saab.", "What sort of car do I have?"),
    ("The contract with the vendor ends in October.", "When does the vendor contract end?"),
    ("The feature flag is called slow-start.", "What is the name of the feature flag?"),
    ("Batch jobs may use at most 12 workers.", "How many workers can a batch job have?"),
    ("My mother's birthday is 3 March.", "On what day was my mother born?"),
    ("The office door code is 7204.", "What code opens the office door?"),
    ("We chose Terraform for the infrastructure.", "What tool describes our infrastructure?"),
    ("Alerts are sent to the channel red-phone.", "Which channel gets the alerts?"),
    ("The archive is compressed with zstd.", "What compresses the archive?"),
    ("I never schedule meetings on Friday.", "On which day do I have no meetings?"),
    ("The mobile app has 12,500 active users.", "How many people use the mobile app?"),
    ("The primary key of orders is a UUID.", "What is the primary key in orders?"),
    ("Latency must stay under 250 milliseconds.", "What latency is allowed?"),
    ("My running club meets at the lighthouse.", "Where does the running club meet?"),
    ("The auditor is Ms Okafor from Lagos.", "Where is the auditor from?"),
    ("The printer on the third floor is broken.", "On which floor is the printer out of order?"),
)
_WHO = ("Anna", "The team", "My colleague", "Tomas", "The client", "Our vendor", "The auditor", "I")
_DID = ("talked about", "looked at", "had doubts about", "was pleased with", "wrote a note on")
_WHAT = (
    "the database", "the report", "the migration", "the project", "the server", "the password",
    "the meeting", "the office", "the backup", "the contract", "the mobile app", "the schema",
    "the orders", "the infrastructure", "the queue", "the budget", "the flight", "the archive",
)  # fmt: skip
_WHEN = ("yesterday", "this morning", "again", "for an hour", "over lunch", "after the weekend")


def conversation(seed, idle=320):
    """Texts in order, and for each planted question the place of its statement."""
    draw = random.Random(seed)
    said = [
        f"{draw.choice(_WHO)} {draw.choice(_DID)} {draw.choice(_WHAT)} {draw.choice(_WHEN)}."
        for _ in range(idle)
    ]
    said += [statement for statement, _ in PLANTED]
    draw.shuffle(said)
    return said, {question: said.index(statement) for statement, question in PLANTED}

"""Why a rule is one although Penguiflow's own reference store does not keep it. `README.md` has the same as a table."""

FINGERPRINT = "the reference raises: it writes an event as JSON, then as UTF-8, to tell it from others"
DEEP_COPY = "the reference raises: it copies the object deeply, which not every object and depth can be"
SANITISER = "Penguiflow's own sanitiser raises, and the reference lets it"
LIVE = "the reference keeps the caller's own object, or gives out its own"
SHALLOW = "the reference copies only the outermost object, so that what is within is shared"
ONCE = "the reference appends a repeat; Penguiflow's specification asks for dedupe by id"
EMPTY_PROGRESS = "the reference makes None of an empty progress"
TRACE_ALONE = "the reference keeps a trajectory by trace alone: a second session takes over the first one's"
ONE_LOOP = "the reference's lock belongs to the first loop in which somebody waited for it"
EXPIRED = (
    "the reference answers a put with the reference to an expired artifact, whose content is gone at the next read"
)
FIFO = "the reference's fifo is its lru"
TRACE_LIMITS = "the reference has limits for a trace, and never looks at them"
SHARED_ID = "in the reference a second session that stores the same content takes it away from the first"

# Values, in the places where the reference raises because of them.
REFERENCE_RAISES: dict[tuple[str, str], str] = {
    **{
        ("event", name): FINGERPRINT
        for name in (
            "unshowable object",
            "int of 5001 digits",
            "lone surrogate",
            "lone surrogate key",
            "nested 5000 deep",
        )
    },
    **{
        (carrier, name): DEEP_COPY
        for carrier in ("task context", "update")
        for name in ("generator", "lock", "nested lists", "nested objects", "nested 5000 deep")
    },
}

"""JSON schemas of the formats that `export` writes, as far as their readers need them."""

TRACE = {
    "type": "object",
    "required": ["displayTimeUnit", "traceEvents"],
    "properties": {
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "ph", "pid", "tid", "args"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "ph": {"enum": ["X", "M"]},
                    "pid": {"type": "integer", "minimum": 0},
                    "tid": {"type": "integer", "minimum": 0},
                    "args": {"type": "object"},
                },
                "if": {"properties": {"ph": {"const": "X"}}},
                "then": {
                    "required": ["cat", "ts", "dur"],
                    "properties": {
                        "cat": {"enum": ["round", "turn", "burn_in", "lead", "sample"]},
                        "ts": {"type": "number", "minimum": 0},
                        "dur": {"type": "number", "minimum": 0},
                    },
                },
                "else": {
                    "properties": {"name": {"enum": ["process_name", "process_sort_index", "thread_name"]}},
                },
            },
        },
    },
}

#: As https://bencher.dev/docs/reference/bencher-metric-format describes it, and of the measures only what we export.
BENCHER = {
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"minLength": 1, "maxLength": 1024},
    "additionalProperties": {
        "type": "object",
        "required": ["latency"],
        "additionalProperties": False,
        "properties": {
            "latency": {
                "type": "object",
                "required": ["value"],
                "additionalProperties": False,
                "properties": {
                    name: {"type": "number", "exclusiveMinimum": 0} for name in ("value", "lower_value", "upper_value")
                },
            }
        },
    },
}

#: As the README of benchmark-action/github-action-benchmark describes `customSmallerIsBetter`.
SMALLER_IS_BETTER = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "unit", "value"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "unit": {"const": "ms"},
            "value": {"type": "number", "exclusiveMinimum": 0},
            "range": {"type": "string", "pattern": r"^± [\d.,]+$"},
            "extra": {"type": "string"},
        },
    },
}

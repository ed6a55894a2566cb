-- A template is the partition's own, says what it writes for whom, and is read back from JSON.

select
    "partition",
    style,
    version,
    audience,
    format,
    kinds
from prompt_templates
where (
    style = "partition"
    and regexp_full_match(version, '[0-9a-f]{16}')
    and regexp_matches(audience, '\S')
    and regexp_matches(format, '\S')
    and len(kinds) > 0
    and case when json_valid(template) then template ->> '$.style' = style end
) is not true

-- A removed document is similar to one of smaller id, in a named cell, that is not removed itself.

select
    "partition",
    prompt_id,
    partner_id,
    partner_cell,
    similarity
from duplicates
where (
    partner_id < prompt_id
    and regexp_full_match(partner_cell, '[^:]+:[^:]+')
    and similarity > 0 and similarity <= 1
) is not true
or partner_id in (select prompt_id from duplicates)

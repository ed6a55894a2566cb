-- A completion has a text, or it failed and says why: never both, never neither.

select
    "partition",
    prompt_id,
    status,
    finish_reason,
    error,
    left(text, 60) as text_start
from completions
where (
    case status
        when 'ok' then regexp_matches(text, '\S') and error is null
        when 'failed' then text is null and regexp_matches(error, '\S')
    end
    and coalesce(finish_reason in ('stop', 'length'), true)
) is not true

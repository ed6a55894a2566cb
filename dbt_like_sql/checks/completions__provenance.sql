-- A completion says who wrote it, with which sampling; no count of tokens is below zero.

select
    "partition",
    prompt_id,
    model,
    sampling,
    prompt_tokens,
    completion_tokens
from completions
where (
    regexp_matches(model, '\S')
    and revision is not null
    and json_valid(sampling)
    and coalesce(prompt_tokens, 0) >= 0
    and coalesce(completion_tokens, 0) >= 0
) is not true

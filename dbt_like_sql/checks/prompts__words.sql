-- A prompt is of its cell's style and of one template version, asks for something in 10 to 200,000
-- characters, and quotes its extract as it is.

with versions as (
    select
        *,
        min(style_version) over (partition by "partition") as version
    from prompts
)

select
    "partition",
    prompt_id,
    style,
    style_version,
    length(prompt) as characters
from versions
where (
    regexp_full_match(prompt_id, '[0-9a-f]{16}')
    and style = split_part("partition", ':', 2)
    and style_version = version
    and topic_named is not null
    and length(prompt) between 10 and 200000
    and contains(prompt, extract)
) is not true

-- A prompt shows each of its variables as it is, so that it can be written again from them, and
-- says what is sampled otherwise.

select
    "partition",
    prompt_id,
    topic_named,
    topic,
    sampling
from prompts
where (
    json_valid(sampling)
    and topic_named = (topic is not null)
    and contains(prompt, coalesce(topic, ''))
    and contains(prompt, coalesce(title, ''))
    and contains(prompt, coalesce(category, ''))
    and contains(prompt, coalesce(function_name, ''))
    and contains(prompt, coalesce(array_to_string(covered, '; '), ''))
    and contains(prompt, coalesce(array_to_string(siblings, '; '), ''))
    and contains(prompt, coalesce(array_to_string(features, '; '), ''))
    and coalesce(
        list_bool_and(list_transform(passages, lambda id: contains(prompt, '[' || id || '] '))),
        true
    )
    and (words is null or len(words) = 3)
    and contains(prompt, coalesce(words[1], ''))
    and contains(prompt, coalesce(words[2], ''))
    and contains(prompt, coalesce(words[3], ''))
) is not true

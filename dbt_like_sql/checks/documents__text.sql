-- A document has words, and no more letters than the completion it was cleaned from.

select
    "partition",
    prompt_id,
    n_words,
    left(text, 60) as text_start
from documents
where (
    regexp_matches(text, '\S')
    and n_words between 1 and length(text)
    and length(text) <= length(raw_text)
) is not true

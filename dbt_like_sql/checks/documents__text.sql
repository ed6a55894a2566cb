-- A document has words, and no more bytes than the completion it was cleaned from.

select
    "partition",
    prompt_id,
    n_words,
    left(text, 60) as text_start
from documents
where (
    regexp_matches(text, '\S')
    and n_words between 1 and strlen(text)
    and strlen(text) <= strlen(raw_text)
) is not true

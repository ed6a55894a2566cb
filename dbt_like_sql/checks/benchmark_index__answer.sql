-- A sample asks something; its answer is the choice that answer_idx points at, or, without
-- choices, is given and answer_idx is not.

select
    "partition",
    benchmark,
    subset,
    split,
    sample_id,
    answer_idx,
    answer
from benchmark_index
where (
    benchmark = "partition"
    and regexp_matches(question, '\S')
    and regexp_matches(answer, '\S')
    and case len(choices)
        when 0 then answer_idx is null
        else answer_idx between 0 and len(choices) - 1 and answer = choices[answer_idx + 1]
    end
) is not true

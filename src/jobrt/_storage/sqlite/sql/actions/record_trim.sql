-- Numbers are given out in order, so those that are not kept any more are found by the number.
DELETE FROM jobrt_action WHERE id <= (SELECT max(id) FROM jobrt_action) - :kept;

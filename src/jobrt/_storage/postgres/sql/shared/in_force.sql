-- Whether a hold is in force: one for more than an hour was made by a clock that was wrong.
(held_until > statement_timestamp() and held_until <= statement_timestamp() + interval '1 hour')

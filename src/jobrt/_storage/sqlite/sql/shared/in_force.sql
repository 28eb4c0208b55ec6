-- Whether a hold is in force: one for more than an hour was made by a clock that was wrong.
(held_until > :now AND held_until <= :now + 3600000000)

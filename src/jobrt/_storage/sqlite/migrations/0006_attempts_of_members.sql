-- The attempt of the parent that has enqueued a member, or run it again: in that attempt it is not run once more.
ALTER TABLE jobrt_member ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;

-- Most members end in a batch, which `settle_ended` deals with as a whole. `end_member` found that out for each of them by
-- itself; now it is called for the others only. (It still asks: the first of a batch ends before the batch is known.)
drop trigger end_member on {schema}.job;
create trigger end_member after update of finished_at on {schema}.job for each row
    when (old.flags & 8 <> 0 and old.finished_at is null and new.finished_at is not null
          and ((new.state = 'completed' and new.lease = -old.lease or new.flags & 32 <> 0 and old.flags & 32 = 0)
               and current_setting('jobrt.ended', true) <> '') is not true)
    execute function {schema}.end_member();

SELECT EXISTS (SELECT 1 FROM jobrt_nursery WHERE ending = 1);

-- Asked at each end, so it has to be cheap: most applications never have a row here.
SELECT EXISTS (SELECT 1 FROM jobrt_dependency);

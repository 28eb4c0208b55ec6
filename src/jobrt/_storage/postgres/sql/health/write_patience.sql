select set_config('lock_timeout', :milliseconds, true)

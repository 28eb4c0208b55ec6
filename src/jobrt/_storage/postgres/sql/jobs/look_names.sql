-- The names of the final jobs of some states.
with recursive known (state, name) as ({known_ends})
select k.state::text, k.name from known k where k.state::text = any(:states::text[]) limit :most::bigint

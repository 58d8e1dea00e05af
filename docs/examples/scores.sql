-- Results of `dinomaly score` in DuckDB: duckdb -c ".read docs/examples/scores.sql", in the folder of the results.
-- From a bucket: install httpfs; load httpfs; then read_parquet('s3://results/july/part-*.parquet').

create or replace view scores as select * from read_parquet('part-*.parquet');

-- One row a photo, or there are results of several models or lists.
select count(*) as rows, count(distinct photo) as photos, count(error) as unreadable from scores;

-- Verdicts by folder, the worst first.
select parse_path(photo)[1] as folder, count(*) filter (defective) as not_good, count(*) as photos, max(normalised) as highest
from scores where error is null
group by folder order by not_good desc, folder;

-- Photos that somebody should look at.
select photo, verdict, nearest, normalised from scores where defective order by normalised desc limit 20;

-- What made the files.
select distinct decode(key) as key, decode(value) as value from parquet_kv_metadata('part-*.parquet') where decode(key) like 'dinomaly%' order by all;

-- plans, operators, statistics
SELECT count(*) > 0 AS installed FROM millrace.install_models();
CREATE TEMP TABLE plan AS SELECT * FROM millrace.model_plan('cifar10');
SELECT count(*) > 5 AS steps, bool_and(ms IS NULL AND gflops IS NULL) AS not_measured,
	min(step) = 1 AND max(step) = count(*) AS numbered, sum(flops) > 50e6 AS counted,
	sum(weight_bytes) > 3e6 AS weights
FROM plan;
SELECT detail, output FROM plan WHERE step = 1;
SELECT kernel, detail, output, layout, flops FROM plan WHERE step = (SELECT max(step) FROM plan);
SELECT bool_and(ms >= 0) AS measured, sum(ms) > 0 AS took_time FROM millrace.model_plan('cifar10', true);
SET millrace.isa = 'portable';
SELECT count(*) > 5 AS steps FROM millrace.model_plan('cifar10:1');
RESET millrace.isa;
-- only networks have one
SELECT * FROM millrace.model_plan('cifar10_fast');
SELECT * FROM millrace.model_plan('nothing');

SELECT domain, operator, since_opset, until_opset, kernel FROM millrace.supported_operators
WHERE operator IN ('Clip', 'Conv', 'Identity') ORDER BY 2, 3;
SELECT count(*) > 100 AS many, count(*) = count(DISTINCT (domain, operator, since_opset)) AS distinct_lines,
	bool_and(since_opset <= until_opset) AS ranges
FROM millrace.supported_operators;

-- a file is mapped and read
SELECT millrace.prewarm('cifar10') > 1000000 AS bytes;
SELECT millrace.prewarm('cifar10_fast') > 0 AS bytes;

-- counters, told at the end of each transaction
SELECT millrace.stat_models_reset();
SELECT count(*) FROM millrace.stat_models;
SELECT count(classify(array_fill(i::real, ARRAY[20]), 'cifar10_fast')) FROM generate_series(1, 10) i;
SELECT count(*) FROM millrace.classify_rows(array_fill(0::real, ARRAY[1000, 20]), 'cifar10_fast');
SELECT array_length(infer('cifar10', array_fill(0::real, ARRAY[2 * 3 * 32 * 32])), 1) > 0 AS two_images;
SELECT name, version, calls, rows, seconds > 0 AS time, cache_hits = calls - loads AS hits, file_bytes > 0 AS file,
	work_bytes > 0 AS work, last_used BETWEEN since AND now() + '1 hour' AS used
FROM millrace.stat_models ORDER BY name;

-- errors: a bad input, one that is caught, a bad image; not what has nothing to do with the model
SELECT millrace.stat_models_reset();
\set VERBOSITY sqlstate
SELECT classify('{1,2}', 'cifar10_fast');
SELECT classify(array_fill('NaN'::real, ARRAY[20]), 'cifar10_fast');
DO $$ BEGIN PERFORM infer('cifar10_fast', '{1}'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
SELECT classify(NULL, 'cifar10_fast'), classify(array_fill(0, ARRAY[20])::real[], 'cifar10_fast') IS NOT NULL AS ok, 1 / (random() * 0)::int;
\set VERBOSITY default
SELECT (millrace.try_extract_descriptors('no image', 'cifar10')).sqlstate;
SELECT name, calls, errors, cpu_seconds >= 0 AS cpu, peak_bytes >= file_bytes AS peak FROM millrace.stat_models ORDER BY name;
SELECT array_length(infer('cifar10', array_fill(0::real, ARRAY[3 * 32 * 32])), 1) > 0 AS one_image;
SELECT errors, cpu_seconds > 0 AS cpu, peak_bytes > file_bytes AS peak FROM millrace.stat_models WHERE name = 'cifar10';

-- memory of a run is known before it, and refused
SET millrace.max_model_memory = '128kB';
\set VERBOSITY sqlstate
SELECT array_length(infer('cifar10', array_fill(0::real, ARRAY[3 * 32 * 32])), 1);
\set VERBOSITY default
RESET millrace.max_model_memory;

-- who may
SET ROLE millrace_monitor;
SELECT count(*) > 0 AS seen FROM millrace.stat_models;
SELECT millrace.stat_models_reset();
SELECT * FROM millrace.model_plan('cifar10');
RESET ROLE;

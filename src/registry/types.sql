-- registry: what inference returns

CREATE TYPE millrace.classification AS (
	label      text,
	confidence real,
	model      text
);
COMMENT ON TYPE millrace.classification IS
	'what a classifier says of one row: the likeliest label, its probability, and the model as name:version';

CREATE TYPE millrace.extraction AS (
	descriptors    real[],
	model          text,
	content_sha256 bytea,
	extract_ms     real,
	sqlstate       text,
	message        text
);
COMMENT ON TYPE millrace.extraction IS
	'descriptors of one image with their origin, or, when the image is no good, sqlstate and message of the failure';

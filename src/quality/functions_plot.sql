-- quality: pictures of data sets as SVG text

CREATE FUNCTION millrace.plot_scatter(x double precision[], y double precision[], groups int[] DEFAULT NULL, names text[] DEFAULT NULL,
		title text DEFAULT NULL, x_label text DEFAULT NULL, y_label text DEFAULT NULL, map boolean DEFAULT false) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_scatter';
COMMENT ON FUNCTION millrace.plot_scatter(double precision[], double precision[], int[], text[], text, text, text, boolean) IS
	'SVG of points, in the colours of their groups (0, 1 … of names; others grey); map: both directions have one scale, and no numbers';

CREATE FUNCTION millrace.plot_turning(x double precision[], y double precision[], z double precision[], groups int[] DEFAULT NULL, names text[] DEFAULT NULL,
		title text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_turning';
COMMENT ON FUNCTION millrace.plot_turning(double precision[], double precision[], double precision[], int[], text[], text) IS
	'animated SVG of points in space that turn about the upright axis (y), once in 24 seconds; of more than 1200 an even choice';

CREATE FUNCTION millrace.plot_heat(counts double precision[], columns int, title text DEFAULT NULL, x_label text DEFAULT NULL, y_label text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_heat';
COMMENT ON FUNCTION millrace.plot_heat(double precision[], int, text, text, text) IS 'SVG of counts over the unit square, row by row from above';

CREATE FUNCTION millrace.plot_groups(names text[], series text[], counts double precision[], title text DEFAULT NULL, x_label text DEFAULT NULL) RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_plot_groups';
COMMENT ON FUNCTION millrace.plot_groups(text[], text[], double precision[], text, text) IS
	'SVG of bars: for each name one a series; counts of the first series, by name, then of the next';

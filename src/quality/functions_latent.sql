-- quality: latent space

CREATE FUNCTION millrace.tsne(vectors real[], dims int, options jsonb DEFAULT '{}')
	RETURNS real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_tsne';
COMMENT ON FUNCTION millrace.tsne(real[], int, jsonb) IS
	't-SNE: a map of vectors of dims numbers each, as n_components numbers a vector, one after the other; options as scikit-learn names them';

CREATE FUNCTION millrace.tsne_fit(vectors real[], dims int, options jsonb DEFAULT '{}',
		OUT map real[], OUT kl_divergence double precision, OUT perplexity double precision, OUT iterations int)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_tsne_fit';
COMMENT ON FUNCTION millrace.tsne_fit(real[], int, jsonb) IS
	'millrace.tsne() with how good the map is (Kullback-Leibler divergence, less is better), the perplexity taken and the iterations done';

CREATE FUNCTION millrace.nearest_neighbours(points real[], dims int, k int DEFAULT 10, queries real[] DEFAULT NULL, first int DEFAULT 1, within real[] DEFAULT NULL)
	RETURNS TABLE (query int, neighbours int[], distances real[])
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000000 ROWS 1000
	AS 'MODULE_PATHNAME', 'millrace_nearest_neighbours';
COMMENT ON FUNCTION millrace.nearest_neighbours(real[], int, int, real[], int, real[]) IS
	'the k nearest points of each query from the place first on, nearest first, by places from 1 on and Euclidean distances, exactly; without queries the points are asked, none of which is its own neighbour; within, a distance for each query: nearer points only, and the queries that have one';

CREATE FUNCTION millrace.knn_agreement(vectors real[], dims int, labels int[], k int DEFAULT 10)
	RETURNS real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_knn_agreement';
COMMENT ON FUNCTION millrace.knn_agreement(real[], int, int[], int) IS
	'for each vector the share of its k nearest that have its label';

CREATE FUNCTION millrace.outlier_factors(neighbours int[], distances real[], k int)
	RETURNS double precision[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_outlier_factors';
COMMENT ON FUNCTION millrace.outlier_factors(int[], real[], int) IS
	'local outlier factors of lists of k neighbours and their distances, one after the other (0: none): about 1 in a cloud, larger where neighbours lie closer to each other';

CREATE FUNCTION millrace.knn_outliers(vectors real[], dims int, k int DEFAULT 20, deviations real DEFAULT 5, at_least real DEFAULT 1.5)
	RETURNS TABLE (item int, factor double precision, "limit" double precision)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_knn_outliers';
COMMENT ON FUNCTION millrace.knn_outliers(real[], int, int, real, real) IS
	'vectors whose local outlier factor is beyond at_least, and beyond the median by so many robust deviations of its logarithm, by their places from 1 on';

CREATE FUNCTION millrace.neighbour_outliers(items bigint[], neighbours bigint[], distances real[], k int, deviations real DEFAULT 5, at_least real DEFAULT 1.5)
	RETURNS TABLE (item bigint, factor double precision, "limit" double precision, nearest bigint, distance real)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_neighbour_outliers';
COMMENT ON FUNCTION millrace.neighbour_outliers(bigint[], bigint[], real[], int, real, real) IS
	'knn_outliers() of lists of neighbours that are known: k for each of the items, which are in ascending order; what is not among these counts as none; with their nearest and how far it is';

CREATE FUNCTION millrace.neighbour_confusion(items bigint[], neighbours bigint[], labels int[], k int, at_most int DEFAULT 2147483647)
	RETURNS TABLE (label int, neighbour_label int, pairs bigint)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_neighbour_confusion';
COMMENT ON FUNCTION millrace.neighbour_confusion(bigint[], bigint[], int[], int, int) IS
	'how often items of one label have neighbours of another (or the same) among the first at_most of their k, where they do';

CREATE FUNCTION millrace.silhouettes(vectors real[], dims int, labels int[], sample int DEFAULT 5000, random_state bigint DEFAULT 0)
	RETURNS TABLE (label int, points int, sampled int, silhouette double precision)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_silhouettes';
COMMENT ON FUNCTION millrace.silhouettes(real[], int, int[], int, bigint) IS
	'mean silhouette by label, and over all in the row whose label is NULL: exact for up to sample vectors, else of so many drawn ones, each against all';

CREATE FUNCTION millrace.kmeans_clusters(vectors real[], dims int, k int, random_state bigint DEFAULT 0)
	RETURNS int[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_kmeans_clusters';
COMMENT ON FUNCTION millrace.kmeans_clusters(real[], int, int, bigint) IS
	'the cluster, from 1 to k, of each vector, by k-means';

CREATE FUNCTION millrace.principal_components(vectors real[], dims int, n_components int DEFAULT 3)
	RETURNS real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_principal_components';
COMMENT ON FUNCTION millrace.principal_components(real[], int, int) IS
	'vectors along their directions of largest variance: n_components numbers each, one after the other';

CREATE FUNCTION millrace.near_items(items bigint[], vectors real[], queries bigint[] DEFAULT NULL, query_vectors real[] DEFAULT NULL, k int DEFAULT 20,
		known bigint[] DEFAULT '{}', distances real[] DEFAULT '{}', OUT item bigint[], OUT neighbour bigint[], OUT distance real[])
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_near_items';
COMMENT ON FUNCTION millrace.near_items(bigint[], real[], bigint[], real[], int, bigint[], real[]) IS
	'the k nearest items of each query, and of each item the queries that are nearer than the last of its known neighbours: item i has neighbour i at distance i; known: items in ascending order with k distances each; without queries the k nearest of each item';

CREATE FUNCTION millrace.kept_neighbours(items bigint[], neighbours bigint[], distances real[], k int, current bigint[],
		OUT items bigint[], OUT neighbours bigint[], OUT distances real[])
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_kept_neighbours';
COMMENT ON FUNCTION millrace.kept_neighbours(bigint[], bigint[], real[], int, bigint[]) IS
	'the items, k neighbours each, that are current and whose neighbours all are; items and current ascend';

CREATE FUNCTION millrace.grown_neighbours(items bigint[], neighbours bigint[], distances real[], k int, fresh bigint[], item bigint[], neighbour bigint[], distance real[],
		OUT items bigint[], OUT neighbours bigint[], OUT distances real[])
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000
	AS 'MODULE_PATHNAME', 'millrace_grown_neighbours';
COMMENT ON FUNCTION millrace.grown_neighbours(bigint[], bigint[], real[], int, bigint[], bigint[], bigint[], real[]) IS
	'lists of k neighbours (0 with infinity where there are fewer), with fresh items and what near_items() found of them and the others';

CREATE FUNCTION millrace.neighbour_rows(items bigint[], neighbours bigint[], distances real[], k int)
	RETURNS TABLE (item bigint, neighbours bigint[], distances real[])
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10000 ROWS 1000
	AS 'MODULE_PATHNAME', 'millrace_neighbour_rows';
COMMENT ON FUNCTION millrace.neighbour_rows(bigint[], bigint[], real[], int) IS 'lists of k neighbours as rows, without the places that are empty';

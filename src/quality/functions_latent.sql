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

/*
 * lrn.c
 *	  The learning core on the command line, for t/test_learn_sklearn.py and
 *	  bench/learn.py.
 *
 *	 lrn train ALGORITHM X ROWS COLS Y CLASSES MODEL [NAME=VALUE ...]
 *	 lrn predict MODEL X ROWS OUT [ISA]
 *	 lrn info MODEL
 *	 lrn trees MODEL
 *	 lrn shap MODEL X ROWS OUT
 *	 lrn export MODEL OUT [LABEL ...]	ONNX
 *
 * X: float32 row-major; Y: int32 class ids, or float32 values where CLASSES is 0
 * ("-" for none); OUT: float32, of shap float64: (features + 1) x outputs a row,
 * the last feature being the expected value; sample_weight=FILE: float32.  Each
 * prints one line of JSON, times included.
 */
#include "learn/export.h"
#include "learn/learn.h"
#include "learn/shap.h"
#include "learn/tree_view.h"
#include "unit.h"

#include <math.h>
#include <time.h>

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* Of this process: what a loaded machine leaves comparable. */
static double
cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/*
 * How long a cancel would have to wait: the longest CPU time between two
 * questions whether to stop.
 */
static double last_asked,
			longest_gap;

static bool
note_gap(void *arg)
{
	double		t = cpu();

	longest_gap = fmax(longest_gap, t - last_asked);
	last_asked = t;
	return false;
}

static void
die(const mr_status *st)
{
	fprintf(stderr, "ERROR: %s\n", st->message);
	if (st->detail[0])
		fprintf(stderr, "DETAIL: %s\n", st->detail);
	if (st->hint[0])
		fprintf(stderr, "HINT: %s\n", st->hint);
	exit(1);
}

static unsigned char *
must_read(const char *path, size_t *len)
{
	unsigned char *p = read_file(path, len);

	if (p == NULL)
	{
		fprintf(stderr, "ERROR: cannot read %s\n", path);
		exit(1);
	}
	return p;
}

static void
must_write(const char *path, const void *data, size_t len)
{
	FILE	   *f = fopen(path, "wb");

	if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
	{
		fprintf(stderr, "ERROR: cannot write %s\n", path);
		exit(1);
	}
}

/* NAME=VALUE: null, true, false, a number, else text. */
static void
set(lrn_params *p, char *arg)
{
	char	   *value = strchr(arg, '='),
			   *end;
	lrn_value	v = {LRN_TEXT, 0, NULL};
	mr_status	st = {0};

	if (value == NULL)
		exit(1);
	*value++ = '\0';
	v.text = value;
	if (strcmp(value, "null") == 0)
		v.kind = LRN_NULL;
	else if (strcmp(value, "true") == 0 || strcmp(value, "false") == 0)
	{
		v.kind = LRN_BOOL;
		v.number = value[0] == 't';
	}
	else
	{
		v.number = strtod(value, &end);
		if (*end == '\0' && end != value)
			v.kind = LRN_NUMBER;
	}
	if (lrn_params_set(p, arg, &v, &st))
		die(&st);
}

static void
print_number(const char *name, double v)
{
	if (isnan(v))
		printf(", \"%s\": null", name);
	else
		printf(", \"%s\": %.17g", name, v);
}

static int
train(int argc, char **argv)
{
	lrn_algorithm a;
	lrn_params	p;
	lrn_matrix	m = {0};
	lrn_report	report;
	mr_status	st = {0};
	mr_env		env = mr_env_malloc;
	size_t		len;
	float	   *x,
			  **col;
	lrn_target	t = {.n_classes = atoi(argv[5])};
	uint8_t    *file;
	double		start,
				cpu_start;

	if (lrn_algorithm_find(argv[0], &a, &st))
		die(&st);
	lrn_params_init(&p, a);
	for (int i = 7; i < argc; i++)
		if (strncmp(argv[i], "sample_weight=", 14) == 0)
			t.weight = (float *) must_read(argv[i] + 14, &len);
		else
			set(&p, argv[i]);
	x = (float *) must_read(argv[1], &len);
	m.rows = atoll(argv[2]);
	m.cols = atoi(argv[3]);
	if (len != (size_t) m.rows * (size_t) m.cols * sizeof(float))
		return 1;
	col = malloc((size_t) m.cols * sizeof(float *));
	for (int c = 0; c < m.cols; c++)
	{
		col[c] = aligned_alloc(64, ((size_t) m.rows * sizeof(float) + 63) & ~(size_t) 63);
		for (int64_t i = 0; i < m.rows; i++)
			col[c][i] = x[i * m.cols + c];
	}
	m.col = col;
	if (strcmp(argv[4], "-") != 0 && t.n_classes > 0)
		t.class_id = (int32_t *) must_read(argv[4], &len);
	else if (strcmp(argv[4], "-") != 0)
		t.value = (float *) must_read(argv[4], &len);
	env.interrupted = note_gap;
	start = now();
	cpu_start = last_asked = cpu();
	if (lrn_train(&env, &p, &m, &t, &report, &file, &len, &st))
		die(&st);
	(void) note_gap(NULL);
	printf("{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"bytes\": %zu, \"nodes\": %lld, \"depth\": %d, \"iterations\": %d, \"converged\": %s, \"outputs\": %d",
		   now() - start, cpu() - cpu_start, len, (long long) report.nodes, report.depth, report.iterations,
		   report.converged ? "true" : "false", report.outputs);
	print_number("train_accuracy", report.train_accuracy);
	print_number("train_rmse", report.train_rmse);
	print_number("oob_score", report.oob_score);
	print_number("loss", report.loss);
	print_number("variance_kept", report.variance_kept);
	print_number("longest_gap_ms", longest_gap * 1e3);
	printf("}\n");
	must_write(argv[6], file, len);
	return 0;
}

static int
predict(int argc, char **argv)
{
	static const char *const names[] = {"auto", "portable", "avx2", "avx512"};
	size_t		len,
				flat_len;
	unsigned char *bytes = must_read(argv[0], &len);
	int64_t		rows = atoll(argv[2]);
	int64_t		singles = rows < 2000 ? rows : 2000;
	uint8_t    *flat;
	lrn_model	m;
	mr_status	st = {0};
	float	   *x,
			   *out;
	double		compile,
				open,
				batch = INFINITY,
				single = INFINITY;

	compile = now();
	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st))
		die(&st);
	compile = now() - compile;
	open = now();
	if (lrn_open(flat, flat_len, &m, &st))
		die(&st);
	open = now() - open;
	x = (float *) must_read(argv[1], &len);
	if (len != (size_t) rows * (size_t) lrn_n_features(&m) * sizeof(float))
		return 1;
	if (argc > 4)
		for (int i = 0; i < 4; i++)
			if (strcmp(argv[4], names[i]) == 0)
				lrn_set_isa(&m, (lrn_isa) i);
	out = malloc((size_t) rows * (size_t) lrn_n_outputs(&m) * sizeof(float));
	for (int turn = 0; turn < 5; turn++)
	{
		double		start = now();

		for (int64_t i = 0; i < singles; i++)
			lrn_predict(&m, x + i * lrn_n_features(&m), 1, out + i * lrn_n_outputs(&m));
		single = fmin(single, now() - start);
		start = now();
		lrn_predict(&m, x, rows, out);
		batch = fmin(batch, now() - start);
	}
	must_write(argv[3], out, (size_t) rows * (size_t) lrn_n_outputs(&m) * sizeof(float));
	printf("{\"isa\": \"%s\", \"batch_ns\": %.1f, \"single_ns\": %.1f, \"compile_s\": %.6f, \"open_s\": %.6f, \"file_bytes\": %zu}\n",
		   names[m.isa], batch * 1e9 / (double) rows, single * 1e9 / (double) singles, compile, open, flat_len);
	return 0;
}

static int
info(char **argv)
{
	size_t		len;
	unsigned char *bytes = must_read(argv[0], &len);
	lrn_info	i;
	mr_status	st = {0};

	if (lrn_check(bytes, len, &i, &st))
		die(&st);
	printf("{\"algorithm\": \"%s\", \"features\": %d, \"outputs\": %d", lrn_algorithm_name(i.algorithm),
		   i.n_features, i.n_outputs);
	if (i.algorithm == LRN_PCA)
	{
		double	   *v = malloc((size_t) i.n_outputs * 2 * sizeof(double));

		if (lrn_pca_variance(bytes, len, v, v + i.n_outputs, &st))
			die(&st);
		printf(", \"explained_variance\": [");
		for (int c = 0; c < i.n_outputs; c++)
			printf("%s%.17g", c ? ", " : "", v[c]);
		printf("], \"explained_variance_ratio\": [");
		for (int c = 0; c < i.n_outputs; c++)
			printf("%s%.17g", c ? ", " : "", v[i.n_outputs + c]);
		printf("]");
	}
	printf("}\n");
	return 0;
}

/* The trees as the view gives them, a list of arrays a tree. */
static int
trees(char **argv)
{
	lrn_trees	v;
	const lrn_tree *t;
	mr_status	st = {0};
	size_t		len;
	uint8_t    *bytes = must_read(argv[0], &len);

	if (lrn_trees_open(&mr_env_malloc, bytes, len, &v, &st))
		die(&st);
	printf("{\"margins\": %d, \"scale\": %.17g, \"link\": %d, \"base\": [", v.n_margins, v.scale, (int) v.link);
	for (int i = 0; i < v.n_margins; i++)
		printf("%s%.17g", i ? ", " : "", v.base ? v.base[i] : 0);
	printf("], \"trees\": [");
	while (lrn_trees_next(&v, &t, &st) == MR_OK && t)
	{
		printf("%s{\"margin\": %d, \"nodes\": [", v.done > 1 ? ", " : "", t->margin);
		for (uint32_t i = 0; i < t->n_nodes; i++)
		{
			const lrn_tree_node *n = &t->node[i];
			int			k = t->margin < 0 ? v.n_margins : 1;

			/* JSON has no infinity. */
			printf("%s[%d, %.17g, %d, %u, %u, %.17g, %.17g, [", i ? ", " : "", n->feature,
				   isinf(n->threshold) ? 3.5e38 : (double) n->threshold, n->missing_left, n->left, n->right, n->cover, n->gain);
			for (int c = 0; c < k && n->feature < 0; c++)
				printf("%s%.17g", c ? ", " : "", t->values[n->value + (uint32_t) c]);
			printf("], [");
			for (uint32_t c = 0; n->set && c < t->sets[n->set - 1]; c++)
				printf("%s%u", c ? ", " : "", t->sets[n->set + c]);
			printf("]]");
		}
		printf("]}");
	}
	if (st.code)
		die(&st);
	lrn_trees_close(&v);
	printf("]}\n");
	return 0;
}

static int
shap(char **argv)
{
	lrn_trees	v;
	mr_status	st = {0};
	size_t		len,
				bytes_len;
	uint8_t    *bytes = must_read(argv[0], &bytes_len);
	float	   *x = (float *) must_read(argv[1], &len);
	int64_t		rows = atoll(argv[2]);
	size_t		size;
	double	   *out,
				start;

	if (lrn_trees_open(&mr_env_malloc, bytes, bytes_len, &v, &st))
		die(&st);
	size = (size_t) rows * (size_t) (v.info.n_features + 1) * (size_t) v.n_margins * sizeof(double);
	out = malloc(size);
	start = now();
	if (lrn_shap(&v, x, rows, out, &st))
		die(&st);
	must_write(argv[3], out, size);
	printf("{\"row_us\": %.3f, \"margins\": %d, \"importances\": [", (now() - start) * 1e6 / (double) rows, v.n_margins);
	if (lrn_tree_importances(&v, out, &st))
		die(&st);
	for (int f = 0; f < v.info.n_features; f++)
		printf("%s%.17g", f ? ", " : "", out[f]);
	printf("]}\n");
	lrn_trees_close(&v);
	return 0;
}

static int
export(int argc, char **argv)
{
	lrn_about	about = {.name = "model", .version = 1, .producer_version = "tool"};
	lrn_model	m;
	mr_status	st = {0};
	size_t		len,
				flat_len,
				onnx_len;
	uint8_t    *bytes = must_read(argv[0], &len),
			   *flat,
			   *onnx;
	double		start = now();

	if (lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st) || lrn_open(flat, flat_len, &m, &st))
		die(&st);
	if (argc > 2)
		about.labels = (const char *const *) argv + 2;
	if (about.labels && argc - 2 != lrn_n_classes(&m))
		return 1;
	if (lrn_export_onnx(&mr_env_malloc, bytes, len, &m, &about, SIZE_MAX / 4, &onnx, &onnx_len, &st))
		die(&st);
	must_write(argv[1], onnx, onnx_len);
	printf("{\"seconds\": %.6f, \"bytes\": %zu}\n", now() - start, onnx_len);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc >= 9 && strcmp(argv[1], "train") == 0)
		return train(argc - 2, argv + 2);
	if (argc >= 6 && strcmp(argv[1], "predict") == 0)
		return predict(argc - 2, argv + 2);
	if (argc >= 3 && strcmp(argv[1], "info") == 0)
		return info(argv + 2);
	if (argc >= 3 && strcmp(argv[1], "trees") == 0)
		return trees(argv + 2);
	if (argc >= 6 && strcmp(argv[1], "shap") == 0)
		return shap(argv + 2);
	if (argc >= 4 && strcmp(argv[1], "export") == 0)
		return export(argc - 2, argv + 2);
	fprintf(stderr, "usage: see the head of unit/tools/lrn.c\n");
	return 2;
}

/*
 * test_learn_export.c
 *	  Models as ONNX: the files compile in the engine and answer what the models
 *	  answer; limits, interrupts and missing memory end in their errors.
 *	  (ONNX Runtime and onnx.checker: t/test_learn_onnx_export.py.)
 */
#include "learn/export.h"
#include "nn/nn.h"
#include "unit.h"

#include <math.h>

#define ROWS	240
#define COLS	4
#define CODES	40				/* of the last column, where it is a category */

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t class_id[ROWS];
static float value[ROWS];
static float rows[ROWS * COLS];

static void
make_data(bool missing)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 5, 2);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 200) / 10.0f;
		data[COLS - 1][i] = (float) lrn_rng_below(&rng, CODES);
		class_id[i] = fmodf(data[COLS - 1][i], 7) < 3 ? data[0][i] > 10 : 2 * (data[1][i] > 8);
		value[i] = 3 * data[0][i] - data[1][i] + 100 * (fmodf(data[COLS - 1][i], 5) < 2);
		for (int c = 0; missing && c < COLS; c++)
			if (lrn_rng_below(&rng, 6) == 0)
				data[c][i] = NAN;
	}
	for (int c = 0; c < COLS; c++)
	{
		col[c] = data[c];
		for (int i = 0; i < ROWS; i++)
			rows[i * COLS + c] = data[c][i];
	}
	/* codes of no category */
	rows[COLS - 1] = -1;
	rows[2 * COLS - 1] = CODES + 100;
}

typedef struct trained
{
	uint8_t    *bytes,
			   *flat;
	size_t		len,
				flat_len;
	lrn_model	m;
} trained;

static void
set(lrn_params *p, const char *name, const char *text, double number)
{
	lrn_value	v = {text ? LRN_TEXT : LRN_NUMBER, number, text};
	mr_status	st = {0};

	if (lrn_params_set(p, name, &v, &st) != MR_OK)
		printf("# %s\n", st.message);
}

static bool
train(const lrn_params *p, int classes, bool categories, trained *t)
{
	static const int32_t n_categories[COLS] = {0, 0, 0, CODES};
	lrn_matrix	m = {.rows = ROWS,.cols = COLS,.col = col,.n_categories = categories ? n_categories : NULL};
	int32_t		two[ROWS];
	lrn_target	target = {.class_id = class_id,.n_classes = classes};
	lrn_report	report;
	mr_status	st = {0};

	for (int i = 0; classes == 2 && i < ROWS; i++)
		two[i] = class_id[i] > 0;
	if (classes == 2)
		target.class_id = two;
	if (classes == 0)
		target = (lrn_target) {.value = value};
	if (lrn_train(&mr_env_malloc, p, &m, &target, &report, &t->bytes, &t->len, &st) == MR_OK &&
		lrn_compile(&mr_env_malloc, t->bytes, t->len, &t->flat, &t->flat_len, &st) == MR_OK &&
		lrn_open(t->flat, t->flat_len, &t->m, &st) == MR_OK)
		return true;
	printf("# %s %s\n", st.message, st.detail);
	return false;
}

static void
release(trained *t)
{
	mr_free(&mr_env_malloc, t->bytes);
	mr_free(&mr_env_malloc, t->flat);
}

static const lrn_about about = {.name = "m",.version = 3,.producer_version = "test"};

/* The largest difference between what the file and the model say; INFINITY: it does not run. */
static double
difference(const trained *t, int *wrong)
{
	int			k = lrn_n_outputs(&t->m);
	bool		labels = t->m.info.task == LRN_CLASSIFY || t->m.info.task == LRN_CLUSTER;
	float	   *ours = malloc(ROWS * (size_t) k * sizeof(float)),
			   *theirs = malloc(ROWS * (size_t) k * sizeof(float));
	int64_t		label[ROWS];
	void	   *out[2] = {labels ? (void *) label : theirs, theirs};
	uint8_t    *onnx,
			   *file = NULL;
	size_t		len,
				file_len,
				size;
	nn_model	net;
	void	   *workspace;
	mr_status	st = {0};
	double		worst = INFINITY;

	*wrong = 0;
	lrn_predict(&t->m, rows, ROWS, ours);
	if (lrn_export_onnx(&mr_env_malloc, t->bytes, t->len, &t->m, &about, SIZE_MAX / 4, &onnx, &len, &st) == MR_OK &&
		nn_compile(&mr_env_malloc, onnx, len, &nn_default_options, &file, &file_len, &st) == MR_OK &&
		nn_open(file, file_len, &net, &st) == MR_OK)
	{
		size = (nn_workspace(&net) + 63) & ~(size_t) 63;
		workspace = aligned_alloc(64, size ? size : 64);
		if (nn_run_typed(&net, &mr_env_malloc, workspace, ROWS, (const void *[]) {rows}, out, &st) == MR_OK)
			worst = 0;
		free(workspace);
	}
	if (worst != 0)
		printf("# %s %s\n", st.message, st.detail);
	for (int i = 0; worst < INFINITY && i < ROWS; i++)
	{
		int			best = 0;

		for (int c = 0; c < k; c++)
		{
			double		d = fabs((double) ours[i * k + c] - (double) theirs[i * k + c]) / fmax(1, fabs((double) ours[i * k + c]));

			worst = d > worst || isnan(d) ? d : worst;
			if (t->m.info.task == LRN_CLUSTER ? ours[i * k + c] < ours[i * k + best] : ours[i * k + c] > ours[i * k + best])
				best = c;
		}
		*wrong += labels && label[i] != best;
	}
	free(ours);
	free(theirs);
	mr_free(&mr_env_malloc, onnx);
	mr_free(&mr_env_malloc, file);
	return worst;
}

static void
test_one(const char *name, const lrn_params *p, int classes, bool categories, double tolerance)
{
	trained		t = {0};
	int			wrong = 0;
	double		d = train(p, classes, categories, &t) ? difference(&t, &wrong) : INFINITY;

	if (!ok(d <= tolerance && wrong == 0, "%s", name))
		printf("# difference %g, %d labels\n", d, wrong);
	release(&t);
}

static void
test_algorithms(void)
{
	static const char *const classifiers[] = {
		"random_forest", "extra_trees", "gradient_boosting", "logistic_regression", "linear_svm", "rbf_svm", "knn"
	};
	static const char *const calibrations[] = {NULL, "sigmoid", "isotonic"};
	static const char *const regressors[] = {"random_forest", "extra_trees", "gradient_boosting", "knn", "ridge"};
	static const char *const others[] = {"pca", "kmeans"};
	char		name[96];
	lrn_algorithm a;
	lrn_params	p;
	mr_status	st = {0};

	for (int i = 0; i < 7; i++)
		for (int c = 0; c < 3; c++)
			for (int classes = 2; classes <= 3; classes++)
			{
				bool		trees = i < 3;

				(void) lrn_algorithm_find(classifiers[i], &a, &st);
				lrn_params_init(&p, a);
				if (trees)
					set(&p, "n_estimators", NULL, 8);
				p.calibration = LRN_CALIBRATION_NONE;
				if (calibrations[c])
					set(&p, "calibration", calibrations[c], 0);
				make_data(trees);
				snprintf(name, sizeof(name), "%s, %d classes, %s", classifiers[i], classes, calibrations[c] ? calibrations[c] : "as it is");
				/* float32 in the engine, and an isotonic map may be steep */
				test_one(name, &p, classes, i == 2, c == 2 && !trees ? 1e-3 : 1e-5);
			}
	for (int i = 0; i < 7; i++)
	{
		const char *which = i < 5 ? regressors[i] : others[i - 5];

		(void) lrn_algorithm_find(which, &a, &st);
		lrn_params_init(&p, a);
		if (i < 4)
			p.task = LRN_REGRESS;
		if (i < 3)
			set(&p, "n_estimators", NULL, 8);
		make_data(i < 3);
		snprintf(name, sizeof(name), "%s, numbers", which);
		test_one(name, &p, 0, i == 2, 1e-5);
	}
}

/* ---- what can go wrong ---- */

typedef struct trouble
{
	int			allocations;	/* that succeed */
	int			questions;		/* answered with no */
} trouble;

static void *
some_memory(void *arg, size_t size)
{
	return ((trouble *) arg)->allocations-- > 0 ? mr_env_malloc.alloc(NULL, size) : NULL;
}

static bool
stop_later(void *arg)
{
	return ((trouble *) arg)->questions-- <= 0;
}

static void
test_trouble(const char *algorithm)
{
	trouble		left = {.allocations = 1 << 20,.questions = 1 << 20};
	const mr_env env = {some_memory, mr_env_malloc.release, stop_later, &left};
	lrn_algorithm a;
	lrn_params	p;
	trained		t = {0};
	uint8_t    *onnx;
	size_t		len = 0;
	mr_status	st = {0};
	bool		good = true;
	int			most,
				stops;

	(void) lrn_algorithm_find(algorithm, &a, &st);
	lrn_params_init(&p, a);
	if (a == LRN_GRADIENT_BOOSTING)
		set(&p, "n_estimators", NULL, 5);
	set(&p, "calibration", "isotonic", 0);
	make_data(false);
	if (!ok(train(&p, 3, a == LRN_GRADIENT_BOOSTING, &t) &&
			lrn_export_onnx(&env, t.bytes, t.len, &t.m, &about, SIZE_MAX / 4, &onnx, &len, &st) == MR_OK, "%s is written", algorithm))
		return;
	mr_free(&env, onnx);
	most = (1 << 20) - left.allocations;
	stops = (1 << 20) - left.questions;
	ok(stops > 0, "it asks whether to stop");
	for (int i = 0; i < most; i++)
	{
		left = (trouble) {.allocations = i,.questions = 1 << 20};
		good = good && lrn_export_onnx(&env, t.bytes, t.len, &t.m, &about, SIZE_MAX / 4, &onnx, &len, &st) == MR_NOMEM;
	}
	ok(good, "each of %d allocations may fail", most);
	for (int i = 0; i < stops; i++)
	{
		left = (trouble) {.allocations = 1 << 20,.questions = i};
		good = good && lrn_export_onnx(&env, t.bytes, t.len, &t.m, &about, SIZE_MAX / 4, &onnx, &len, &st) == MR_CANCELED;
	}
	ok(good, "it stops at each of %d questions", stops);
	left = (trouble) {.allocations = 1 << 20,.questions = 1 << 20};
	for (size_t limit = 0; limit < len; limit += 1 + len / 200)
		good = good && lrn_export_onnx(&env, t.bytes, t.len, &t.m, &about, limit, &onnx, &(size_t) {0}, &st) == MR_LIMIT;
	ok(good, "below %zu bytes the limit is told", len);
	release(&t);
}

int
main(void)
{
	test_algorithms();
	test_trouble("gradient_boosting");
	test_trouble("knn");
	test_trouble("rbf_svm");
	return done_testing();
}

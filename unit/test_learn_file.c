/*
 * test_learn_file.c
 *	  Damaged model bytes and prediction files: each change is refused, or,
 *	  where the checksum is forged to fit, walked over safely.
 */
#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	200
#define COLS	3

static float data[COLS][ROWS];
static float *col[COLS] = {data[0], data[1], data[2]};
static int32_t y[ROWS];
static lrn_calibration calibration; /* of the models made next */

static uint8_t *
make_model(lrn_algorithm a, int n_classes, size_t *len)
{
	lrn_params	p;
	lrn_matrix	m = {.rows = ROWS, .cols = COLS, .col = col};
	lrn_rng		rng;
	mr_status	st = {0};
	uint8_t    *bytes;

	lrn_rng_seed(&rng, 2, 2);
	for (int i = 0; i < ROWS; i++)
	{
		for (int c = 0; c < COLS; c++)
			data[c][i] = (float) lrn_rng_below(&rng, 50);
		if (n_classes)
			y[i] = (int32_t) (((unsigned) (data[0][i] > 20) + lrn_rng_below(&rng, 4) / 3) % (unsigned) n_classes);
	}
	lrn_params_init(&p, a);
	p.n_estimators = 4;
	if (a == LRN_GRADIENT_BOOSTING)
		p.max_iter = 2;
	p.min_samples_leaf = 3;
	if (a == LRN_KNN && n_classes == 0)
		p.task = LRN_REGRESS;
	p.calibration = calibration;
	p.cv = 3;
	if (lrn_train(&mr_env_malloc, &p, &m, &(lrn_target) {.class_id = y, .n_classes = n_classes, .value = data[1]},
				  NULL, &bytes, len, &st) != MR_OK)
	{
		printf("# %s\n", st.message);
		exit(1);
	}
	return bytes;
}

/* Make the checksum right again, as damage by a program would. */
static void
forge(uint8_t *bytes, size_t len)
{
	uint64_t	sum = lrn_checksum(0, bytes, 40);

	sum = lrn_checksum(sum, bytes + LRN_HEADER, len - LRN_HEADER);
	for (int i = 0; i < 8; i++)
		bytes[40 + i] = (uint8_t) (sum >> (8 * i));
}

#define SOME	100				/* a block of every kind of model */

static void
predict_something(const uint8_t *flat, size_t len)
{
	lrn_model	model;
	mr_status	st = {0};

	if (lrn_open(flat, len, &model, &st) == MR_OK)
	{
		int			d = lrn_n_features(&model),
					k = lrn_n_outputs(&model);
		float	   *rows = malloc(SOME * (size_t) d * sizeof(float));
		float	   *out = malloc(SOME * (size_t) k * sizeof(float));

		for (int i = 0; i < SOME * d; i++)
			rows[i] = (float) (i * 7 % 50);
		rows[3] = NAN;
		for (int isa = LRN_ISA_PORTABLE; isa <= LRN_ISA_AVX512; isa++)
		{
			lrn_set_isa(&model, (lrn_isa) isa);
			lrn_predict(&model, rows, SOME, out);
			lrn_predict(&model, rows, 1, out);
		}
		free(rows);
		free(out);
	}
}

static void
test_model(const char *what, lrn_algorithm a, int n_classes)
{
	size_t		len,
				flat_len;
	uint8_t    *bytes = make_model(a, n_classes, &len);
	uint8_t    *copy = mr_alloc(&mr_env_malloc, len);
	uint8_t    *flat,
			   *flat_copy;
	lrn_info	info;
	mr_status	st = {0};
	int			accepted = 0,
				cut = 0,
				forged = 0;
	lrn_rng		rng;

	ok(lrn_check(bytes, len, &info, &st) == MR_OK && info.algorithm == a && info.n_features == COLS,
	   "%s: %zu bytes check", what, len);
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit += 3)
		{
			/* The bytes after the checksum are not used. */
			if (i >= 48 && i < LRN_HEADER)
				continue;
			memcpy(copy, bytes, len);
			copy[i] ^= (uint8_t) (1 << bit);
			accepted += lrn_check(copy, len, &info, &st) == MR_OK;
		}
	ok(accepted == 0, "%s: every flipped bit is found", what);
	for (size_t n = 0; n < len; n++)
	{
		uint8_t    *part = malloc(n ? n : 1);

		memcpy(part, bytes, n);
		cut += lrn_check(part, n, &info, &st) == MR_OK;
		if (n > LRN_HEADER)
		{
			part[32] = (uint8_t) (n - LRN_HEADER);
			part[33] = (uint8_t) ((n - LRN_HEADER) >> 8);
			part[34] = (uint8_t) ((n - LRN_HEADER) >> 16);
			forge(part, n);
			cut += lrn_check(part, n, &info, &st) == MR_OK;
		}
		free(part);
	}
	ok(cut == 0, "%s: every cut file is refused, forged checksum or not", what);

	/* Forged damage: refused or harmless; ASan watches. */
	lrn_rng_seed(&rng, 5, 5);
	for (int i = 0; i < 20000; i++)
	{
		size_t		at = i < 4000 ? lrn_rng_below(&rng, LRN_HEADER) : lrn_rng_below(&rng, (uint32_t) len);

		memcpy(copy, bytes, len);
		copy[at] = (uint8_t) lrn_rng_next(&rng);
		if (i % 3 == 0)
			copy[lrn_rng_below(&rng, (uint32_t) len)] ^= (uint8_t) lrn_rng_next(&rng);
		forge(copy, len);
		if (lrn_compile(&mr_env_malloc, copy, len, &flat, &flat_len, &st) == MR_OK)
		{
			if (forged++ % 16 == 0)
				predict_something(flat, flat_len);
			free(flat);
		}
	}
	ok(true, "%s: 20000 forged changes, %d compile, none crashes", what, forged);

	lrn_compile(&mr_env_malloc, bytes, len, &flat, &flat_len, &st);
	flat_copy = mr_alloc(&mr_env_malloc, flat_len);
	accepted = 0;
	for (size_t i = 0; i < flat_len; i++)
	{
		lrn_model	model;

		memcpy(flat_copy, flat, flat_len);
		flat_copy[i] ^= 0x10;
		accepted += lrn_open(flat_copy, flat_len, &model, &st) == MR_OK && i >= sizeof(lrn_flat_header);
	}
	ok(accepted == 0, "%s: every changed byte of the prediction file's sections is found", what);
	for (int i = 0; i < 20000; i++)
	{
		lrn_flat_header *h = (lrn_flat_header *) flat_copy;
		size_t		at = i < 8000 ? lrn_rng_below(&rng, sizeof(lrn_flat_header)) : lrn_rng_below(&rng, (uint32_t) flat_len);

		memcpy(flat_copy, flat, flat_len);
		flat_copy[at] = (uint8_t) lrn_rng_next(&rng);
		h->checksum = lrn_checksum(0, flat_copy + sizeof(*h), flat_len - sizeof(*h));
		predict_something(flat_copy, flat_len);
	}
	ok(true, "%s: 20000 forged prediction files, none crashes or loops", what);
	for (size_t n = 0; n < flat_len; n += 8)
	{
		lrn_model	model;
		uint8_t    *part = mr_alloc(&mr_env_malloc, n ? n : 1);

		memcpy(part, flat, n);
		cut += lrn_open(part, n, &model, &st) == MR_OK;
		mr_free(&mr_env_malloc, part);
	}
	ok(cut == 0, "%s: every cut prediction file is refused", what);
	mr_free(&mr_env_malloc, flat_copy);
	mr_free(&mr_env_malloc, flat);
	mr_free(&mr_env_malloc, copy);
	mr_free(&mr_env_malloc, bytes);
}

int
main(void)
{
	test_model("forest", LRN_RANDOM_FOREST, 3);
	test_model("logistic, 2 classes", LRN_LOGISTIC_REGRESSION, 2);
	test_model("logistic, 3 classes", LRN_LOGISTIC_REGRESSION, 3);
	test_model("pca", LRN_PCA, 0);
	test_model("kmeans", LRN_KMEANS, 0);
	test_model("ridge", LRN_RIDGE, 0);
	test_model("knn, 3 classes", LRN_KNN, 3);
	test_model("knn, values", LRN_KNN, 0);
	test_model("boosting, 2 classes", LRN_GRADIENT_BOOSTING, 2);
	test_model("boosting, 3 classes", LRN_GRADIENT_BOOSTING, 3);
	test_model("rbf_svm", LRN_RBF_SVM, 3);
	test_model("linear_svm, 2 classes", LRN_LINEAR_SVM, 2);
	calibration = LRN_CALIBRATION_SIGMOID;
	test_model("rbf_svm, sigmoid", LRN_RBF_SVM, 3);
	calibration = LRN_CALIBRATION_ISOTONIC;
	test_model("forest, isotonic", LRN_RANDOM_FOREST, 3);
	test_model("logistic, isotonic", LRN_LOGISTIC_REGRESSION, 2);
	return done_testing();
}

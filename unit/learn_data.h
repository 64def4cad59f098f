/*
 * learn_data.h
 *	  Rows that tests of linear models and of PCA learn from.
 */
#ifndef MILLRACE_UNIT_LEARN_DATA_H
#define MILLRACE_UNIT_LEARN_DATA_H

#include "learn/learn_int.h"
#include "unit.h"

#include <math.h>

#define ROWS	503				/* no multiple of 8, two blocks */
#define COLS	5

static float data[COLS][ROWS];
static float *col[COLS];
static int32_t y[ROWS];
static const char *const names[COLS] = {"a", "b", "c", "d", "e"};
static lrn_matrix m = {.rows = ROWS, .cols = COLS, .col = col, .name = names};

static inline double
normal(lrn_rng *rng)
{
	double		s = 0;

	for (int i = 0; i < 12; i++)
		s += (double) (lrn_rng_next(rng) >> 11) * 0x1p-53;
	return s - 6;
}

/* Columns of very different scales; y by a noisy linear rule. */
static inline void
make_data(int n_classes)
{
	lrn_rng		rng;

	lrn_rng_seed(&rng, 11, 0);
	for (int i = 0; i < ROWS; i++)
	{
		double		z[COLS];

		for (int c = 0; c < COLS; c++)
			z[c] = normal(&rng);
		z[1] = 0.6 * z[0] + 0.8 * z[1];
		data[0][i] = (float) z[0];
		data[1][i] = (float) (z[1] * 1000 + 55000);
		data[2][i] = (float) (z[2] * 0.01);
		data[3][i] = (float) z[3];
		data[4][i] = (float) (z[4] + 3);
		y[i] = (int32_t) fmin(fmax(floor(z[0] + z[3] + 0.5 * normal(&rng) + n_classes / 2.0), 0), n_classes - 1);
	}
	for (int c = 0; c < COLS; c++)
		col[c] = data[c];
}

static inline float *
row_major(void)
{
	float	   *rows = malloc(sizeof(data));

	for (int i = 0; i < ROWS; i++)
		for (int c = 0; c < COLS; c++)
			rows[i * COLS + c] = data[c][i];
	return rows;
}

static inline void
open_model(const uint8_t *bytes, size_t len, uint8_t **flat, lrn_model *model)
{
	size_t		flat_len;
	mr_status	st = {0};

	if (lrn_compile(&mr_env_malloc, bytes, len, flat, &flat_len, &st) != MR_OK ||
		lrn_open(*flat, flat_len, model, &st) != MR_OK)
	{
		printf("# %s: %s\n", st.message, st.detail);
		exit(1);
	}
}

#endif							/* MILLRACE_UNIT_LEARN_DATA_H */

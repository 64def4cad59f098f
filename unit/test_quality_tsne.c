/*
 * test_quality_tsne.c
 *	  t-SNE and its steps: neighbours, transforms, the grid's forces, the same bits on every instruction set, and data
 *	  that leaves little to map.
 */
#include "quality/latent_int.h"
#include "unit.h"

#include <math.h>
#include <string.h>

#define MOST	2000
#define DIMS	7

static float x[MOST * DIMS];
static float y[MOST * 3];
static float other[MOST * 3];
static mr_status st;
static const nn_isa isas[] = {nn_isa_portable, nn_isa_avx2, nn_isa_avx512};

static uint32_t
draw(void)
{
	static uint64_t s = 1;

	s = s * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t) (s >> 33);
}

/* heaps far from each other */
static qlt_vectors
make(int64_t n, int dims, int heaps)
{
	for (int64_t i = 0; i < n; i++)
		for (int j = 0; j < dims; j++)
			x[i * dims + j] = 5 * (float) (i % heaps == j) + (float) (draw() % 1000) / 1000;
	return (qlt_vectors) {x, n, dims};
}

static qlt_work
work_by(nn_isa isa)
{
	return (qlt_work) {.env = &mr_env_malloc,.isa = isa};
}

static bool
finite_map(int64_t numbers)
{
	for (int64_t i = 0; i < numbers; i++)
		if (!isfinite(y[i]) || fabsf(y[i]) > 1e6f)
			return false;
	return true;
}

static void
neighbours(void)
{
	enum {n = 203, k = 11};
	static int32_t index[n * k];
	static float distance[n * k];
	qlt_work	w = work_by(nn_isa_auto);
	qlt_vectors v = make(n, DIMS, 3);
	bool		same = true;

	memcpy(x + 5 * DIMS, x + 2 * DIMS, DIMS * sizeof(float));	/* equal points */
	ok(qlt_neighbours(&w, &v, &v, k, true, 0, index, distance, &st) == MR_OK, "neighbours are found");
	for (int i = 0; i < n; i++)
	{
		bool		taken[n] = {false};

		taken[i] = true;
		for (int r = 0; r < k; r++)
		{
			int			best = -1;
			float		least = INFINITY;

			for (int j = 0; j < n; j++)
			{
				float		d = 0;

				for (int c = 0; c < DIMS; c++)
					d += (x[j * DIMS + c] - x[i * DIMS + c]) * (x[j * DIMS + c] - x[i * DIMS + c]);
				if (!taken[j] && d < least)
				{
					least = d;
					best = j;
				}
			}
			taken[best] = true;
			same = same && index[i * k + r] == best && distance[i * k + r] == least;
		}
	}
	ok(same, "they are those of all comparisons, nearest first, equal ones by number");
	ok(index[2 * k] == 5 && distance[2 * k] == 0, "an equal point is the nearest one");
	v.n = 4;
	ok(qlt_neighbours(&w, &v, &v, k, true, 0, index, distance, &st) == MR_OK && index[2] >= 0 && index[3] == -1 && isinf(distance[3]),
	   "fewer points than neighbours leave the rest empty");
}

static void
transforms(void)
{
	for (int n = 8; n <= 64; n *= 2)
	{
		static float in[64 * 32],
					a[64 * 32],
					b[64 * 32],
					turn[128];
		double		worst = 0;
		float	   *out;

		for (int k = 0; k < n; k++)
		{
			double		c,
						s;

			qlt_root_of_unity(k, n, &c, &s);
			worst = fmax(worst, fmax(fabs(c - cos(2 * M_PI * k / n)), fabs(s - sin(2 * M_PI * k / n))));
			turn[2 * k] = (float) c;
			turn[2 * k + 1] = (float) -s;
		}
		ok(worst < 1e-15, "roots of 1 are exact for %d (%g)", n, worst);
		worst = 0;
		for (int i = 0; i < n * 32; i++)
			a[i] = in[i] = (float) (draw() % 1000) / 1000 - 0.5f;
		out = qlt_kernels_for(nn_isa_auto)->fft(a, b, n, turn, false);
		for (int k = 0; k < n; k++)
			for (int lane = 0; lane < 16; lane++)
			{
				double		re = 0,
							im = 0;

				for (int t = 0; t < n; t++)
				{
					double		angle = -2 * M_PI * k * t / n;

					re += in[t * 32 + lane] * cos(angle) - in[t * 32 + 16 + lane] * sin(angle);
					im += in[t * 32 + lane] * sin(angle) + in[t * 32 + 16 + lane] * cos(angle);
				}
				worst = fmax(worst, fmax(fabs(re - out[k * 32 + lane]), fabs(im - out[k * 32 + 16 + lane])));
			}
		ok(worst < 1e-5, "a transform of %d is the sum it stands for (%g)", n, worst);
		out = qlt_kernels_for(nn_isa_auto)->fft(out, out == a ? b : a, n, turn, true);
		worst = 0;
		for (int i = 0; i < n * 32; i++)
			worst = fmax(worst, fabs(out[i] / n - in[i]));
		ok(worst < 1e-6, "and its inverse gives it back (%g)", worst);
	}
}

/* The grid's forces against all pairs, for a span of points, of which few are near each other. */
static void
grid(float span, double tolerance)
{
	enum {n = 1003, stride = 1008};
	static float at[2 * stride],
				by_grid[2 * stride];
	qlt_work	w = work_by(nn_isa_auto);
	const qlt_kernels *kernels = qlt_kernels_for(nn_isa_auto);
	qlt_grid   *g = NULL;
	double		z = 0,
				exact_z = 0,
				error = 0,
				size = 0;

	for (int i = 0; i < 2 * stride; i++)
		at[i] = i % stride < n ? (float) (draw() % 100000) / 100000 * span : QLT_FAR;
	ok(qlt_grid_begin(&w, kernels, &g, &st) == MR_OK && qlt_grid_repel(g, at, stride, n, by_grid, &z, &st) == MR_OK, "a grid over %g", (double) span);
	for (int i = 0; i < n; i++)
	{
		float		force[3];

		exact_z += kernels->repel(at, stride, 2, stride, i, force) - 1;
		for (int c = 0; c < 2; c++)
		{
			error += pow((double) by_grid[c * stride + i] - (double) force[c], 2);
			size += pow((double) force[c], 2);
		}
	}
	ok(sqrt(error / size) < tolerance, "its forces are those of all pairs (%g)", sqrt(error / size));
	ok(fabs(z - exact_z) < tolerance * (n + exact_z), "and so is the sum (%g of %g)", z, exact_z);
	qlt_grid_end(g);
}

static void
map(const char *what, qlt_vectors v, int components)
{
	qlt_tsne_options o;
	qlt_tsne_report r;

	qlt_tsne_init(&o);
	o.max_iter = v.n > 1000 ? 30 : 120;
	o.n_components = components;
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++)
	{
		qlt_work	w = work_by(isas[i]);

		ok(qlt_tsne(&w, &o, &v, y, &r, &st) == MR_OK && finite_map(v.n * components) && isfinite(r.kl_divergence), "%s: %s", what, st.message);
		if (i == 0)
			memcpy(other, y, sizeof(y));
		else
			ok(memcmp(other, y, (size_t) v.n * (size_t) components * sizeof(float)) == 0, "%s: the same bits by another instruction set", what);
	}
}

static bool
stop(void *count)
{
	return --*(int *) count < 0;
}

static void
failures(void)
{
	qlt_work	w = work_by(nn_isa_auto);
	qlt_tsne_options o;
	qlt_vectors v = make(1700, DIMS, 3);
	int			count,
				step = 1;
	mr_env		env = mr_env_malloc;

	qlt_tsne_init(&o);
	o.max_iter = 3;
	x[15] = NAN;
	ok(qlt_tsne(&w, &o, &v, y, NULL, &st) == MR_INVALID && strstr(st.detail, "Element 2 of vector 3 is NaN"), "NaN is refused: %s %s", st.message, st.detail);
	x[15] = INFINITY;
	ok(qlt_tsne(&w, &o, &v, y, NULL, &st) == MR_INVALID, "infinity is refused");
	x[15] = 0;
	w.max_memory = 1000000;
	ok(qlt_tsne(&w, &o, &v, y, NULL, &st) == MR_LIMIT, "memory is known before: %s", st.message);
	w.max_memory = 0;
	env.interrupted = stop;
	env.arg = &count;
	w.env = &env;
	for (int at = 0;; at += step)
	{
		mr_code		code;

		count = at;
		code = qlt_tsne(&w, &o, &v, y, NULL, &st);
		if (code == MR_OK)
			break;
		if (code != MR_CANCELED)
		{
			ok(false, "cancelled at look %d: %s", at, st.message);
			return;
		}
		step = 1 + at / 5;
	}
	ok(true, "cancelled at any look, nothing is left behind");
	ok(qlt_tsne_set(&o, "perplexity", "nan", &st) == MR_INVALID && qlt_tsne_set(&o, "max_iter", "1.5", &st) == MR_INVALID &&
	   qlt_tsne_set(&o, "init", "spectral", &st) == MR_INVALID && qlt_tsne_set(&o, "random_state", "-1", &st) == MR_INVALID &&
	   qlt_tsne_set(&o, "verbose", "1", &st) == MR_INVALID, "options out of range are refused");
	ok(qlt_tsne_set(&o, "learning_rate", "auto", &st) == MR_OK && o.learning_rate == 0 && qlt_tsne_set(&o, "n_iter", "7", &st) == MR_OK && o.max_iter == 7,
	   "options by scikit-learn's names");
}

static int
compare_near(const void *a, const void *b)
{
	const qlt_near *x = a,
			   *y = b;

	return x->point != y->point ? (x->point < y->point ? -1 : 1) : x->distance < y->distance ? -1 : x->distance > y->distance;
}

/* So many queries near every point that the buffer is cut over and over. */
static void
both_ways(void)
{
	enum {n = 203, queries = 1501, k = 7};
	static int32_t index[queries * k],
				again[n * k],
				there[queries * k];
	static float distance[queries * k],
				back[n * k],
				there_distance[queries * k],
				within[n];
	static float q[queries * 5];
	qlt_vectors v = make(n, 5, 3),
				u = {q, queries, 5};

	for (int i = 0; i < queries * 5; i++)
		q[i] = (float) (draw() % 6000) / 1000;
	for (int s = 0; s < 3; s++)
	{
		qlt_work	w = work_by(isas[s]);
		mr_status	st = {0};
		qlt_near   *near;
		int64_t		found,
					wrong = 0,
					far = 0;

		for (int i = 0; i < n; i++)
			within[i] = i % 3 == 0 ? 2.0f : INFINITY;
		ok(qlt_neighbours_both(&w, &v, &u, k, within, index, distance, &near, &found, &st) == MR_OK &&
		   qlt_neighbours(&w, &v, &u, k, false, 0, there, there_distance, &st) == MR_OK &&
		   qlt_neighbours(&w, &u, &v, k, false, 0, again, back, &st) == MR_OK, "both ways");
		ok(memcmp(index, there, sizeof(index)) == 0 && memcmp(distance, there_distance, sizeof(distance)) == 0, "the points of queries are those of one way");
		qsort(near, (size_t) found, sizeof(qlt_near), compare_near);
		for (int64_t i = 0, of_point = 0; i < found; i++)
		{
			of_point = i > 0 && near[i].point == near[i - 1].point ? of_point + 1 : 0;
			far += near[i].distance >= within[near[i].point];
			if (of_point < k)
				wrong += near[i].distance != back[near[i].point * k + of_point];
		}
		for (int i = 0; i < n; i++)
		{
			int			wanted = 0,
						have = 0;

			for (int j = 0; j < k; j++)
				wanted += back[i * k + j] < within[i];
			for (int64_t j = 0; j < found; j++)
				have += near[j].point == i;
			wrong += have < wanted;
		}
		ok(wrong == 0 && far == 0, "and the queries near points, too: %lld", (long long) found);
		free(near);
	}
}

int
main(void)
{
	qlt_vectors v;
	double		worst = 0;

	for (double a = 1e-300; a < 1e300; a *= 3.7)
		worst = fmax(worst, fabs(qlt_log(a) - log(a)) / fmax(1, fabs(log(a))));
	ok(worst < 4e-16, "logarithms (%g)", worst);
	neighbours();
	transforms();
	grid(1e-3f, 1e-6);
	grid(40, 0.01);
	grid(100, 0.02);
	grid(600, 0.1);	/* more than the largest grid is made for */
	map("three heaps", make(300, DIMS, 3), 2);
	map("in space", make(300, DIMS, 3), 3);
	map("on a grid", make(1601, DIMS, 3), 2);
	v = make(90, DIMS, 3);
	for (int i = 0; i < 90 * DIMS; i++)
		x[i] = 3;
	map("all equal", v, 2);
	v = make(90, DIMS, 3);
	memcpy(x, x + 45 * DIMS, 45 * DIMS * sizeof(float));
	map("half of them twice", v, 2);
	ok(fabsf(y[0] - y[90]) < 0.1f && fabsf(y[1] - y[91]) < 0.1f, "equal vectors stay together (%g, %g and %g, %g)", (double) y[0], (double) y[1],
	   (double) y[90], (double) y[91]);
	for (int n = 0; n < 6; n++)
		map("few", make(n, DIMS, 3), 2);
	map("one number each", make(50, 1, 3), 2);
	v = make(90, DIMS, 3);
	for (int i = 0; i < 90 * DIMS; i++)
		x[i] *= i % 2 ? 3e38f / 7 : 1e-38f;
	map("far and near", v, 2);
	failures();
	both_ways();
	return done_testing();
}

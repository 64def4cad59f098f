/*
 * bench/similarity_codes.c
 *	  Codes of vectors alone: rate of encoding, speed of a scan, recall of its candidates, and
 *	  how many vectors their lower bounds leave to be looked at.
 *
 * Vectors and queries are .npy files of float32, C order.  Each vector is taken `copies` times, the copies moved
 * at random by a fifth of their length.  Recall counts by distance: whatever is as near as the tenth.  Usage:
 *		similarity_codes vectors.npy queries.npy [metric [copies [queries [isa]]]]
 * Build: make build/bench/similarity_codes; bench/similarity.py runs it.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text/similarity.h"

#define PAGE_BLOCKS 4
#define NEAREST 10
#define MOST_KEPT 3200

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static void *
room(size_t bytes)
{
	void	   *p = NULL;

	if (posix_memalign(&p, 64, (bytes + 127) / 64 * 64))
		exit(1);
	return p;
}

/* The header of a .npy is a line of text; its shape is all we need. */
static float *
load(const char *path, long *rows, long *n)
{
	FILE	   *f = fopen(path, "rb");
	unsigned char head[10];
	char		text[65536] = {0};
	const char *shape;
	float	   *x;

	if (f == NULL || fread(head, 1, 10, f) != 10 || fread(text, 1, (size_t) (head[8] | head[9] << 8), f) == 0 ||
		strstr(text, "<f4") == NULL || (shape = strstr(text, "'shape': (")) == NULL || sscanf(shape + 10, "%ld, %ld", rows, n) != 2)
	{
		fprintf(stderr, "%s: not an .npy file of float32 rows\n", path);
		exit(1);
	}
	x = room((size_t) *rows * (size_t) *n * sizeof(float));
	if (fread(x, sizeof(float), (size_t) (*rows * *n), f) != (size_t) (*rows * *n))
		exit(1);
	fclose(f);
	return x;
}

static double
normal(void)
{
	static uint64_t s = 88172645463325252;
	double		sum = 0;

	for (int i = 0; i < 4; i++)
	{
		s ^= s << 13;
		s ^= s >> 7;
		s ^= s << 17;
		sum += (double) (s >> 11) / 9007199254740992.0 - 0.5;
	}
	return sum * sqrt(3);
}

static int
ascending(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	static const int keep[] = {50, 100, 200, 400, 800, 1600, MOST_KEPT};
	enum
	{
		KEEPS = sizeof(keep) / sizeof(keep[0])
	};
	long		base,
				n,
				n_queries,
				n2;
	float	   *x,
			   *queries;
	int			copies = argc > 4 ? atoi(argv[4]) : 1;
	sim_params	p = {0};
	size_t		rows,
				block,
				bytes_size;
	uint8_t    *blocks,
			   *bytes;
	double	   *sum,
			   *exact,
			   *found,
				t,
				scan = 1e9,
				total_scan = 0,
				total_bound = 0,
				recall[KEEPS] = {0},
				looked[KEEPS] = {0};
	float	   *centre;
	void	   *memory;
	sim_candidate *list;
	const sim_candidate none = {-INFINITY, 0};

	if (argc < 3)
		return 2;
	x = load(argv[1], &base, &n);
	queries = load(argv[2], &n_queries, &n2);
	if (n2 != n)
		return 2;
	p.n = (int) n;
	p.metric = argc > 3 ? (sim_metric) atoi(argv[3]) : SIM_COSINE;
	if (argc > 5 && atoi(argv[5]) < n_queries)
		n_queries = atoi(argv[5]);
	if (argc > 6)
		sim_force((nn_isa) atoi(argv[6]));
	rows = (size_t) base * (size_t) copies;
	if (copies > 1)
	{
		float	   *all = room(rows * (size_t) n * sizeof(float));

		for (size_t i = 0; i < rows; i++)
			for (long j = 0; j < n; j++)
			{
				size_t		of = (i % (size_t) base) * (size_t) n + (size_t) j;

				all[i * (size_t) n + (size_t) j] = i < (size_t) base ? x[of] : x[of] + (float) (0.2 * normal() / sqrt((double) n));
			}
		x = all;
	}
	sum = calloc((size_t) n, sizeof(double));
	centre = room((size_t) n * sizeof(float));
	for (long i = 0; i < base; i += 20)
		sim_centre_add(p.metric, x + i * n, (int) n, sum);
	sim_centre_finish(sum, (base + 19) / 20, (int) n, centre);
	p.centre = getenv("NO_CENTRE") ? NULL : centre;

	block = sim_block_size((int) n);
	bytes_size = sim_bytes_size((int) n);
	blocks = room((rows / SIM_BLOCK + 1) * block);
	bytes = room(rows * bytes_size);
	t = now();
	for (size_t i = 0; i < rows; i++)
	{
		sim_signs	signs;

		if (i % SIM_BLOCK == 0)
			sim_block_clear(blocks + i / SIM_BLOCK * block, (int) n);
		sim_encode(&p, x + i * (size_t) n, &signs, bytes + i * bytes_size);
		sim_block_put(blocks + i / SIM_BLOCK * block, (int) n, (int) (i % SIM_BLOCK), &signs);
	}
	t = now() - t;
	printf("rows %zu dimensions %ld signs %.1f bytes %zu a row\n", rows, n, (double) block / SIM_BLOCK, bytes_size);
	printf("encode %.2f us a row\n", t / (double) rows * 1e6);

	memory = room(sim_query_size((int) n));
	exact = room(rows * sizeof(double));
	found = room(MOST_KEPT * sizeof(double));
	list = room((3 * MOST_KEPT) * sizeof(sim_candidate));
	for (long i = 0; i < n_queries; i++)
	{
		const float *q = queries + i * n;
		double		tenth;
		size_t		n_blocks = (rows + SIM_BLOCK - 1) / SIM_BLOCK;

		for (size_t r = 0; r < rows; r++)
			exact[r] = sim_distance(p.metric, q, x + r * (size_t) n, (int) n);
		{
			double	   *copy = room(rows * sizeof(double));

			memcpy(copy, exact, rows * sizeof(double));
			qsort(copy, rows, sizeof(double), ascending);
			tenth = copy[NEAREST - 1];
			free(copy);
		}
		for (int k = 0; k < KEEPS; k++)
		{
			sim_best	best;
			double		start = now(),
						middle;
			sim_query  *query = sim_prepare(&p, q, memory);
			size_t		got;
			int			right = 0;

			sim_best_init(&best, list, (size_t) keep[k] * 2 + 256, (size_t) keep[k]);
			for (size_t b = 0; b < n_blocks; b += PAGE_BLOCKS)
				sim_best_scan(&best, query, blocks + b * block, block, (int) (n_blocks - b < PAGE_BLOCKS ? n_blocks - b : PAGE_BLOCKS),
							  (uint32_t) (b * SIM_BLOCK), none);
			got = sim_best_finish(&best);
			middle = now();
			for (size_t j = 0; j < got; j++)
				found[j] = sim_lower_bound(query, bytes + list[j].number * bytes_size);
			if (keep[k] == 800)
			{
				total_scan += middle - start;
				total_bound += now() - middle;
				if (middle - start < scan)
					scan = middle - start;
			}
			for (size_t j = 0; j < got; j++)
			{
				double		distance = exact[list[j].number];

				right += distance <= tenth;
				looked[k] += found[j] <= tenth;
			}
			recall[k] += fmin(right, NEAREST) / NEAREST;
		}
	}
	printf("scan %.3f ms (best %.3f, %.1f GB/s), then 800 bounds %.3f ms\n", total_scan / (double) n_queries * 1e3, scan * 1e3,
		   (double) (rows / SIM_BLOCK * block) / scan * 1e-9, total_bound / (double) n_queries * 1e3);
	for (int k = 0; k < KEEPS; k++)
		printf("keep %d recall %.4f looked at %.1f\n", keep[k], recall[k] / (double) n_queries, looked[k] / (double) n_queries);
	return 0;
}

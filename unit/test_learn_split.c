/*
 * test_learn_split.c
 *	  Folds and hold-outs: every row once, classes in proportion, groups whole,
 *	  time forward; and the sort beneath them.
 */
#include "learn/sort.h"
#include "learn/split.h"
#include "unit.h"

#include <math.h>
#include <stdlib.h>

#define ROWS 10007
#define CLASSES 7

static int32_t class_id[ROWS],
			part[ROWS],
			again[ROWS];
static uint64_t group[ROWS];
static double order[ROWS];
static const mr_env *env = &mr_env_malloc;

/* Spread of the rows of a class (all: -1) over the parts 0 .. n-1. */
static int64_t
spread(int n, int c)
{
	int64_t		count[16] = {0},
				low = ROWS,
				high = 0;

	for (int i = 0; i < ROWS; i++)
		count[part[i]] += c < 0 || class_id[i] == c;
	for (int f = 0; f < n; f++)
	{
		low = count[f] < low ? count[f] : low;
		high = count[f] > high ? count[f] : high;
	}
	return high - low;
}

static int64_t
in_part(int p, int c)
{
	int64_t		n = 0;

	for (int i = 0; i < ROWS; i++)
		n += part[i] == p && (c < 0 || class_id[i] == c);
	return n;
}

static void
test_rows(void)
{
	lrn_split	s = {.folds = 5,.class_id = class_id,.n_classes = CLASSES,.seed = 1};
	mr_status	st = {0};
	bool		even = true;

	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK && spread(5, -1) <= 1, "five folds of equal size");
	for (int c = 0; c < CLASSES; c++)
		even &= spread(5, c) <= 1;
	ok(even, "each class spread evenly");
	ok(lrn_split_rows(env, &s, ROWS, again, &st) == MR_OK && memcmp(part, again, sizeof(part)) == 0, "same seed, same folds");
	s.seed = 2;
	ok(lrn_split_rows(env, &s, ROWS, again, &st) == MR_OK && memcmp(part, again, sizeof(part)) != 0, "another seed, others");
	ok(lrn_split_role(&s, 3, 3) == LRN_TEST && lrn_split_role(&s, 3, 2) == LRN_TRAIN, "a row tests in its fold alone");

	s.folds = 1;
	s.test_share = 0.2;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK && in_part(0, -1) == 2002, "a hold-out of a fifth, rounded up");
	for (int c = 0; c < CLASSES; c++)
		even &= fabs((double) in_part(0, c) - 0.2 * (double) (in_part(0, c) + in_part(1, c))) <= 1;
	ok(even, "of every class a fifth");
	s.folds = 9;
	ok(lrn_split_rows(env, &s, 8, part, &st) == MR_INVALID, "nine folds of eight rows are refused");
	s.folds = 1;
	s.test_share = 1;
	ok(lrn_split_rows(env, &s, 8, part, &st) == MR_INVALID, "a hold-out of everything is refused");
}

static void
test_groups(void)
{
	lrn_split	s = {.folds = 4,.class_id = class_id,.n_classes = CLASSES,.group = group,.seed = 1};
	int32_t		part_of[300];
	mr_status	st = {0};
	bool		whole = true,
				even = true;

	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK && spread(4, -1) < 100, "groups in four folds of near size");
	memset(part_of, -1, sizeof(part_of));
	for (int i = 0; i < ROWS; i++)
	{
		int32_t    *p = &part_of[group[i]];

		whole &= *p < 0 || *p == part[i];
		*p = part[i];
	}
	ok(whole, "no group in two folds");
	for (int c = 0; c < CLASSES; c++)
		even &= spread(4, c) < 80;
	ok(even, "classes near their share");
	s.folds = 1;
	s.test_share = 0.25;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK && llabs(in_part(0, -1) - ROWS / 4) < 100, "a hold-out of groups");
	/* Each group a class of its own. */
	for (int i = 0; i < ROWS; i++)
		class_id[i] = (int32_t) group[i];
	s.n_classes = 300;
	s.folds = 4;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK && spread(4, -1) < 60, "classes that are groups spread too");
	for (int i = 0; i < ROWS; i++)
		group[i] = i % 2;
	s.folds = 3;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_INVALID, "two groups make no three folds");
}

static void
test_time(void)
{
	lrn_split	s = {.folds = 4,.order = order};
	double		end[8],
				begin[8];
	mr_status	st = {0};
	bool		forward = true;

	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_OK, "four folds by time");
	for (int p = 0; p < 8; p++)
	{
		begin[p] = INFINITY;
		end[p] = -INFINITY;
	}
	for (int i = 0; i < ROWS; i++)
	{
		begin[part[i]] = fmin(begin[part[i]], order[i]);
		end[part[i]] = fmax(end[part[i]], order[i]);
	}
	for (int p = 1; p < 5; p++)
		forward &= end[p - 1] < begin[p];
	ok(forward && llabs(in_part(2, -1) - ROWS / 5) < 20, "each part lies after the one before, equal times together");
	ok(lrn_split_role(&s, 0, 0) == LRN_TRAIN && lrn_split_role(&s, 1, 0) == LRN_TEST &&
	   lrn_split_role(&s, 2, 0) == LRN_UNUSED && lrn_split_role(&s, 1, 3) == LRN_TRAIN, "the past trains, the future rests");
	for (int i = 0; i < ROWS; i++)
		order[i] = 1;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_INVALID, "one time only is refused");
	order[5] = NAN;
	ok(lrn_split_rows(env, &s, ROWS, part, &st) == MR_INVALID, "NaN is no time");
}

static void
test_sort(void)
{
	static uint64_t key[ROWS];
	static uint32_t carry[ROWS];
	mr_status	st = {0};
	bool		sorted = true,
				inverse = true;

	for (uint32_t i = 0; i < ROWS; i++)
	{
		double		x = i % 3 == 0 ? -(double) (i % 1000) * 1e300 : (double) (i * 7919 % 5000) / 5000;

		key[i] = lrn_key_of(x);
		inverse &= lrn_number_of(key[i]) == x;
		carry[i] = i;
	}
	ok(inverse && lrn_key_of(-0.0) == lrn_key_of(0.0), "numbers as keys and back");
	ok(lrn_sort_keys(env, key, carry, ROWS, &st) == MR_OK, "a sort");
	for (int i = 1; i < ROWS; i++)
		sorted &= lrn_number_of(key[i - 1]) < lrn_number_of(key[i]) || (key[i - 1] == key[i] && carry[i - 1] < carry[i]);
	ok(sorted, "upwards and stable");
}

int
main(void)
{
	double		shares[3] = {0.7, 0.2, 0.1};
	int			count[3] = {0};

	for (int i = 0; i < ROWS; i++)
	{
		class_id[i] = i % 100 == 0 ? 6 : i * i % 6;
		group[i] = (uint64_t) (i * 13 % 300);
		order[i] = (i * 7919 % ROWS) / 10;
	}
	test_sort();
	test_rows();
	test_groups();
	test_time();

	ok(lrn_hash("GALAXY", 6, 0) == UINT64_C(0x42f2b2c137045f34), "a hash as it always was");
	for (uint64_t i = 0; i < 100000; i++)
	{
		char		text[24];
		int			n = snprintf(text, sizeof(text), "%llu", (unsigned long long) i);

		count[lrn_split_of(lrn_hash(text, (size_t) n, 0), shares, 3)]++;
	}
	ok(abs(count[0] - 70000) < 600 && abs(count[1] - 20000) < 600 && abs(count[2] - 10000) < 600, "shares of hashed keys");
	shares[2] = 0.05;
	ok(lrn_split_of(UINT64_MAX, shares, 3) == -1, "outside of the shares");
	return done_testing();
}

/*
 * sketch_int.h
 *	  Inside a sketch: shared by sketch_*.c and drift.c.
 */
#ifndef MILLRACE_LEARN_SKETCH_INT_H
#define MILLRACE_LEARN_SKETCH_INT_H

#include "learn/learn_int.h"
#include "learn/sketch.h"

#define SKETCH_LEVELS	9

/* Values of one weight; all but level 0 sorted. */
typedef struct sketch_level
{
	double	   *x;
	int			n;
	int			size;
} sketch_level;

typedef struct sketch_numbers
{
	int64_t		infinite;
	double		min,
				max;
	double		mean,
				m2;				/* of finite values: sum of squared differences from mean */
	double		error2;			/* variance of a rank, at most */
	int			shift;			/* level i weighs 2^(shift + i) */
	int			n_levels;
	sketch_level level[SKETCH_LEVELS];
	/* One of 2^shift values goes to level 0: the one at position pick. */
	double		held;
	uint64_t	seen;			/* values of this block so far */
	uint64_t	pick;
	uint64_t	random;			/* state of splitmix64 */
} sketch_numbers;

typedef struct sketch_entry
{
	uint64_t	hash;
	int64_t		count;
	uint32_t	offset;			/* in text */
	uint32_t	len;
} sketch_entry;

typedef struct sketch_categories
{
	sketch_entry *entry;
	int			n;
	int			size;
	int32_t    *slot;			/* hash table of entries, -1 = free; 2 x size */
	char	   *text;
	size_t		text_len;
	size_t		text_size;
	int64_t		other;			/* rows of categories that are not kept */
	int64_t		error;			/* counts are too low by at most this */
} sketch_categories;

struct lrn_sketch
{
	mr_env		env;
	lrn_sketch_kind kind;
	int64_t		count;
	int64_t		missing;
	sketch_numbers *numbers;
	sketch_categories *categories;
};

extern mr_code lrn_numbers_add(lrn_sketch *s, const double *x, int64_t n);
extern mr_code lrn_numbers_merge(lrn_sketch *into, const lrn_sketch *other);
/* Room for size values. */
extern mr_code lrn_numbers_room(lrn_sketch *s, int level, int size);
/* Ascending; tmp has n too. */
extern void lrn_sort_doubles(double *x, double *tmp, int n);

extern mr_code lrn_categories_merge(lrn_sketch *into, const lrn_sketch *other);
/* NULL: not kept. */
extern const sketch_entry *lrn_categories_find(const sketch_categories *c, const char *text, uint32_t len);

/* The values kept, ascending, equal ones joined, with the weight up to each. */
typedef struct sketch_view
{
	int			n;
	double	   *x;
	double	   *upto;			/* weight of values <= x[i] */
	double		total;
} sketch_view;

extern mr_code lrn_sketch_view(const mr_env *env, const lrn_sketch *s, sketch_view *v);
extern void lrn_sketch_view_free(const mr_env *env, sketch_view *v);

#endif							/* MILLRACE_LEARN_SKETCH_INT_H */

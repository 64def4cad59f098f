/*
 * boost_file.h
 *	  The files of gradient boosting: model bytes decoded (boost_train.c tells
 *	  their format), and the prediction file's pages.
 *
 * A page is a tree, or a part of one, of at most 32 leaves: its nodes are
 * evaluated all at once, without walking.  Leaves are numbered from left to
 * right, a bit each; a node whose answer is "right" clears the bits of its
 * left subtree; the lowest bit that remains is the leaf (QuickScorer:
 * Lucchese et al., 2015).  A larger tree is several pages: leaves of one stand
 * for other pages, which come before it in the file.
 */
#ifndef MILLRACE_BOOST_FILE_H
#define MILLRACE_BOOST_FILE_H

#include "learn/learn_int.h"

#define BOOST_PAGE		32		/* leaves of a page */

/* A page's nodes: numbers whose missing values go left, other numbers, categories. */
typedef struct boost_page
{
	float		threshold[BOOST_PAGE];
	uint32_t	clear[BOOST_PAGE];	/* leaves that "right" rules out */
	float		value[BOOST_PAGE];	/* of leaves */
	uint16_t	feature[BOOST_PAGE];	/* among those the model uses */
	uint8_t		child[BOOST_PAGE][2];	/* left, right: a node, or BOOST_PAGE + a leaf */
	uint8_t		root;			/* of the page's nodes; BOOST_PAGE + 0 without any */
	uint8_t		n_left;			/* nodes whose missing values go left */
	uint8_t		n_numbers;		/* these and those whose missing values go right */
	uint8_t		n_nodes;
	uint32_t	n_links;
	uint32_t	link;			/* the first */
	uint32_t	set;			/* of the first category node */
	uint8_t		reserved[48];
} boost_page;

/* A leaf of a page that stands for another page. */
typedef struct boost_link
{
	uint32_t	leaf;
	uint32_t	page;
} boost_link;

/* A feature the model uses; of a category, where the numbers of its codes stand. */
typedef struct boost_used
{
	uint32_t	feature;
	uint32_t	n_categories;	/* 0 = numbers */
	uint32_t	map;			/* a byte a code */
	uint32_t	missing;		/* number of the missing value */
} boost_used;

#define BOOST_UNKNOWN	255		/* a code out of range: in no set */

/* Sections of the prediction file. */
enum
{
	BOOST_BASE,					/* double a margin */
	BOOST_USED,
	BOOST_MAP,
	BOOST_PAGES,
	BOOST_LINKS,
	BOOST_SETS,					/* 8 words a category node */
	BOOST_ROOTS					/* n_trees + 1: a tree's pages, its root the last of them */
};

/* ---- model bytes ---- */

#define BOOST_MOST_NODES	0x1000000	/* of a tree */
#define BOOST_MOST_CODES	0x1000000	/* of a category column */
#define BOOST_MOST_OWN		253

/* One decoded node. */
typedef struct boost_raw
{
	bool		leaf;
	bool		category;
	bool		missing_left;	/* of numbers */
	uint32_t	feature;
	float		threshold;
	float		gain;
	float		value;
	uint32_t	set[8];
	uint32_t	cover;
} boost_raw;

/* Margins a model of these dimensions has. */
static inline int
boost_margins(const lrn_info *info)
{
	return info->n_classes > 2 ? info->n_classes : 1;
}

extern bool boost_read_node(lrn_reader *r, const lrn_info *info, boost_raw *n);
/* own: room for BOOST_MOST_OWN, or NULL. */
extern bool boost_read_codes(lrn_reader *r, uint32_t *n_categories, uint32_t *n_own, uint32_t *own);

extern mr_code lrn_boost_train(const mr_env *env, const lrn_params *p, const lrn_matrix *m,
							   const lrn_target *t, lrn_report *report,
							   uint8_t **file, size_t *len, mr_status *st);
extern mr_code lrn_boost_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code lrn_boost_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
								 uint8_t **file, size_t *file_len, mr_status *st);
extern const struct lrn_tree_format lrn_boost_trees;
extern mr_code lrn_boost_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);

/* boost_learner.c: leaves of a tree, and histograms kept at once, by parameters and size. */
extern int	boost_leaves(const lrn_params *p, int64_t rows);
extern int	boost_slots(const lrn_params *p, int64_t rows, size_t slot_size);

#endif							/* MILLRACE_BOOST_FILE_H */

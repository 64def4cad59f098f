/*
 * learn_int.h
 *	  What the files of the learning core share and nobody else sees.
 */
#ifndef MILLRACE_LEARN_INT_H
#define MILLRACE_LEARN_INT_H

#include "learn/learn.h"

/* ---- random numbers (rng.c): xoshiro256**, seeded by splitmix64 ---- */

typedef struct lrn_rng
{
	uint64_t	s[4];
} lrn_rng;

/* Independent streams of one seed: a tree's stream does not depend on others. */
extern void lrn_rng_seed(lrn_rng *rng, uint64_t seed, uint64_t stream);
extern uint64_t lrn_rng_next(lrn_rng *rng);
/* Uniform in 0 .. n-1, n > 0, without modulo bias. */
extern uint32_t lrn_rng_below(lrn_rng *rng, uint32_t n);

/* ---- bytes (bytes.c): little-endian, growing writer, checked reader ---- */

typedef struct lrn_writer
{
	const mr_env *env;
	uint8_t    *data;
	size_t		len;
	size_t		size;
	size_t		limit;			/* 0 = none */
	mr_code		failed;			/* MR_OK, MR_NOMEM or MR_LIMIT; sticky */
	bool		calibrated;		/* model bytes begin with a calibration */
} lrn_writer;

extern void lrn_put(lrn_writer *w, const void *bytes, size_t n);
extern void lrn_put_u32(lrn_writer *w, uint32_t v);
extern void lrn_put_u64(lrn_writer *w, uint64_t v);
extern void lrn_put_f32(lrn_writer *w, float v);
extern void lrn_put_f64(lrn_writer *w, double v);
extern void lrn_put_varint(lrn_writer *w, uint64_t v);

typedef struct lrn_reader
{
	const uint8_t *p;
	const uint8_t *end;
	bool		bad;			/* sticky: read past the end or a varint too long */
} lrn_reader;

extern uint32_t lrn_get_u32(lrn_reader *r);
extern uint64_t lrn_get_u64(lrn_reader *r);
extern float lrn_get_f32(lrn_reader *r);
extern double lrn_get_f64(lrn_reader *r);
extern uint64_t lrn_get_varint(lrn_reader *r);

/* 64-bit checksum; every single changed byte changes it. */
extern uint64_t lrn_checksum(uint64_t seed, const void *data, size_t n);

/* ---- model bytes: header, then a body by algorithm (file.c) ---- */

#define LRN_HEADER	64

/* An empty header; lrn_file_end() fills it once the body is written. */
extern void lrn_file_begin(lrn_writer *w, const mr_env *env, size_t limit);
extern mr_code lrn_file_end(lrn_writer *w, const lrn_info *info, mr_status *st);
/* Check header and checksum; r stands on the body. */
extern mr_code lrn_file_open(const uint8_t *bytes, size_t len, lrn_info *info,
							 lrn_reader *r, mr_status *st);
extern mr_code lrn_corrupt(mr_status *st, const char *why);

/* Prediction files: the same idea with fixed sections and numbers. */
#define LRN_FLAT_SECTIONS	8

typedef struct lrn_flat_header
{
	char		magic[8];		/* "MRPREDIC" */
	uint32_t	version;		/* LRN_COMPILER_VERSION */
	uint32_t	endian;			/* 0x01020304 as this machine writes it */
	uint32_t	algorithm;
	uint32_t	n_features;
	uint32_t	n_classes;
	uint32_t	n_outputs;
	uint64_t	file_len;
	uint64_t	checksum;		/* of everything after the header */
	uint32_t	task;
	uint32_t	calibration;	/* offset / 64 of its section, 0 = none */
	/* offsets, 64-byte aligned; 0 = absent.  Forest: nodes, wide, roots,
	 * shares, tops; linear: mean, weights, bias */
	uint64_t	section[LRN_FLAT_SECTIONS];
	union
	{
		struct					/* forest */
		{
			uint32_t	n_nodes;
			uint32_t	n_trees;
			uint32_t	n_shares;
			uint32_t	child_shift;
		};
		struct					/* linear */
		{
			uint32_t	padded;
			uint32_t	flags;	/* LRN_FLAT_* */
		};
		struct					/* boosting: boost_file.h */
		{
			uint32_t	n_pages;
			uint32_t	n_boosted;	/* trees */
			uint32_t	n_used;
			uint32_t	n_links;
			uint32_t	n_sets;
			uint32_t	n_map;
		};
		struct					/* knn */
		{
			uint32_t	n_points;
			uint32_t	n_neighbors;
			uint32_t	metric; /* lrn_metric */
			uint32_t	weighting;	/* lrn_neighbour_weights */
		};
		uint32_t	number[18];
	};
} lrn_flat_header;

/* Where a section may begin behind n bytes. */
static inline size_t
lrn_aligned(size_t n)
{
	return (n + 63) & ~(size_t) 63;
}

#define LRN_FLAT_SIGMOID	1

/*
 * A packed node of a forest, 8 bytes.  Lower word: bit 0 missing goes left,
 * then the feature, then from child_shift on the left child (absolute; the
 * right one follows it), 0 = leaf.  Upper word: the threshold's bits, or the
 * leaf's payload: LRN_PURE | class, else where its list starts in shares.
 * Children stand behind their parent, so that no walk can loop.
 */
#define LRN_PURE	0x80000000u

/* A list in shares: one entry whose class counts the rest, then the rest. */
typedef struct lrn_share
{
	uint32_t	class;
	float		share;
} lrn_share;

/*
 * The top of a tree, up to 32 leaves of it: those nodes that most training
 * rows met.  They are asked all at once: leaves are numbered from left to
 * right, a bit each; a node whose answer is "right" rules out its left
 * subtree, and the lowest leaf that remains is the row's (QuickScorer:
 * Lucchese et al., 2015).  The last one nobody rules out.  A leaf of the top
 * is one of the tree, or stands for the node where walking begins.
 */
#define LRN_TOP		32

typedef struct lrn_top
{
	float		threshold[LRN_TOP];
	uint32_t	clear[LRN_TOP]; /* leaves that "right" rules out */
	uint32_t	next[LRN_TOP];	/* of a leaf: payload, or a node */
	uint16_t	feature[LRN_TOP];
	uint32_t	through;		/* leaves whose next is a payload */
	uint16_t	n_left;			/* nodes whose missing values go left come first */
	uint16_t	n_nodes;
	uint8_t		reserved[56];
} lrn_top;

extern mr_code lrn_forest_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code lrn_forest_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
								  uint8_t **file, size_t *file_len, mr_status *st);
extern mr_code lrn_forest_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);
extern double lrn_forest_row_ns(const lrn_model *m);
extern void lrn_forest_predict(const lrn_model *m, const float *rows, int64_t n, float *out);
extern mr_code lrn_linear_check(lrn_reader *r, const lrn_info *info, mr_status *st);
extern mr_code lrn_linear_compile(const mr_env *env, lrn_reader *r, const lrn_info *info,
								  uint8_t **file, size_t *file_len, mr_status *st);
extern mr_code lrn_linear_open(const lrn_flat_header *h, lrn_model *m, mr_status *st);
extern double lrn_linear_row_ns(const lrn_model *m);
extern void lrn_linear_predict(const lrn_model *m, const float *rows, int64_t n, float *out);

/* Whether a section of n items of this size lies within the file. */
extern bool lrn_section_fits(const lrn_flat_header *h, int section, uint64_t n, size_t size);
/* Start of a section, NULL if it is absent. */
extern const void *lrn_section(const lrn_flat_header *h, int section);

/* ---- training ---- */

/*
 * Bodies of linear models.  weights is out x features row-major, bias one a
 * row, mean NULL for logistic regression; variance and ratio NULL unless PCA.
 */
extern mr_code lrn_linear_write(const mr_env *env, const lrn_info *info, const double *mean,
								const double *weights, int n_rows, const double *bias,
								const double *variance, const double *ratio,
								uint8_t **file, size_t *len, mr_status *st);

/* Weight of each class by class_weight; counts are per class, n their sum. */
extern void lrn_class_weights(const lrn_params *p, lrn_class_weight kind,
							  const double *counts, double n, int n_classes, double *w);

extern mr_code lrn_out_of_memory(mr_status *st);
extern mr_code lrn_canceled(mr_status *st);
extern mr_code lrn_over_limit(mr_status *st, size_t need, size_t limit);

/* count x size bytes, counted in *memory (train.c); NULL with st set where that
 * would pass limit bytes.  Limit 0: none. */
extern void *lrn_budget_alloc(const mr_env *env, size_t limit, size_t *memory,
							  size_t count, size_t size, mr_status *st);

/*
 * Minimise a smooth function by L-BFGS (lbfgs.c).  fg() gives value and
 * gradient at x.  Stops when the largest gradient entry is <= tol, when no
 * step lowers the value any more, or after max_iter.
 */
typedef mr_code (*lrn_objective) (void *arg, const double *x, double *f, double *g);
extern mr_code lrn_lbfgs(const mr_env *env, size_t n, double *x, lrn_objective fg, void *arg,
						 int max_iter, double tol, lrn_progress progress, void *progress_arg,
						 int *iterations, bool *converged, double *value, mr_status *st);

/*
 * Leading eigenpairs of a symmetric matrix (eigen.c).  a: n x n row-major,
 * destroyed; values: n, descending; vectors: k x n row-major, unit length.
 */
extern mr_code lrn_eigen(const mr_env *env, double *a, int n, int k,
						 double *values, double *vectors, mr_status *st);
extern size_t lrn_eigen_memory(int n, int k);

/* ---- sums of products (moments.c) ---- */

/* Doubles in a row of a square matrix: kernels want a multiple of 16. */
static inline size_t
lrn_padded(int n)
{
	return ((size_t) n + 15) & ~(size_t) 15;
}

/* What one column is like, each row by its weight. */
typedef struct lrn_column
{
	double		mass;			/* sum w */
	double		mean;
	double		square;			/* sum w (x - mean)^2 */
	double		deviation;		/* 0 where nothing but rounding varies */
	double		top;			/* no |x - mean| is larger */
} lrn_column;

/* weight NULL = 1. */
extern mr_code lrn_column_of(const mr_env *env, const float *x, const float *weight, int64_t rows,
							 lrn_column *c, mr_status *st);

/* About the means; each row by its weight. */
typedef struct lrn_moments
{
	double	   *memory;
	double	   *product;		/* ld x ld, lower triangle: sum w x_i x_j */
	size_t		ld;				/* lrn_padded(cols) */
	double	   *mean;			/* cols */
	double	   *cross;			/* cols: sum w x_j y */
	double		mass;			/* sum w */
	double		extra_mean;		/* of y */
	double		extra_square;	/* sum w y^2 */
} lrn_moments;

/* extra: a column y more, or NULL; weight: of rows, or NULL. */
extern mr_code lrn_moments_of(const mr_env *env, const lrn_matrix *m, const float *extra,
							  const float *weight, lrn_progress progress,
							  void *progress_arg, lrn_moments *s, mr_status *st);
extern void lrn_moments_free(const mr_env *env, lrn_moments *s);
/* Bytes that lrn_moments_of() takes, most of them until lrn_moments_free(). */
extern double lrn_moments_memory(int cols);
/*
 * c[i][j] += sum over r < len of a[i][r] b[j][r], j <= i, for n vectors stride
 * doubles apart, those up to a multiple of 4 zero or unused.
 */
extern mr_code lrn_gram(const mr_env *env, const double *a, const double *b, size_t stride, int len, int n,
						double *c, size_t ld, mr_status *st);

/*
 * Solve a x = x in place for a symmetric a (n x n, ld = lrn_padded(n), lower
 * triangle; destroyed), the solution of least norm where a is singular.
 */
extern mr_code lrn_solve(const mr_env *env, double *a, int n, double *x, mr_status *st);
extern double lrn_solve_memory(int n);

/* ---- kernels: one source, compiled per instruction set, equal bits ---- */

#define LRN_BLOCK	256			/* rows a training kernel takes at once */
#define LRN_LANES	32			/* rows of a group in kernels_cluster.h */
#define LRN_KNN_MOST	1000	/* neighbours of knn, kept on the stack */
#define LRN_KNN_FEATURES	16384	/* of a query of knn, kept there too */
#define LRN_TILE	32			/* rows side by side in a tile of an RBF machine */
#define LRN_SVM_FAR	1e18f		/* its coordinates are held to this */

/* The rows that violate the optimality conditions most. */
typedef struct lrn_smo_best
{
	double		up;				/* largest of up - f */
	double		low;			/* least of low - f */
	int			i;				/* where up is */
} lrn_smo_best;

/* The best border of a column: a histogram's bins up to it go left. */
typedef struct lrn_boost_scan
{
	int64_t		start[2];		/* what is left of the first bin: missing values, or 0 */
	int64_t		total[2];
	int			row_bits;
	double		g_unit,
				h_unit;
	double		l2;
	int64_t		min_rows;
	double		min_hessian;
	double		gain;			/* in: to be passed; out: the best */
	int			bin;			/* -1: none passes */
} lrn_boost_scan;

/* A margin's rows. */
typedef struct lrn_boost_rows
{
	const float *score;			/* without the base */
	const float *target;		/* squared error: what the score should be; else NULL */
	const int32_t *class_id;
	int32_t		class;			/* the one the margin is for */
	const float *weight;		/* or NULL */
	const float *top;			/* softmax: largest score; else NULL */
	const float *inverse;		/* and 1 / sum of exponentials */
	float		base;
	float		h_factor;
	float		g_scale,
				h_scale;		/* numbers to units */
} lrn_boost_rows;

typedef struct lrn_kernels
{
	/*
	 * Scores, probabilities, loss and gradient of a block of n <= LRN_BLOCK
	 * rows from row first on.  w: k x d row-major, b: k; k = 1 is the binary
	 * model.  sw: weight a class, rw: of rows, or NULL; grad: k x (d + 1), the
	 * last is the intercept's; added to.  scratch, share: k x LRN_BLOCK doubles;
	 * share gets weight times probability, unless NULL.  Returns loss.
	 */
	double		(*logistic_block) (float *const *col, int64_t first, int n, int d,
								   const int32_t *y, const double *sw, const float *rw, int k,
								   const double *w, const double *b,
								   double *grad, double *scratch, double *share);
	/* z[r] = (x[r] - shift) * root[r] (root NULL = 1), zeros up to a multiple of 8. */
	void		(*widen) (const float *x, int n, double shift, const double *root, double *z);
	/*
	 * c[i][j] += sum over r < len of a[i * stride + r] * b[j * stride + r] for
	 * i0 <= i < i1, j0 <= j < j1 and j <= i, rounded up to tiles of at most 4;
	 * a and b 64-byte aligned, len and stride multiples of 8, the i and j of 4.
	 */
	void		(*gram) (const double *a, const double *b, size_t stride, int len,
						 int i0, int i1, int j0, int j1, double *c, size_t ld);
	double		(*dot) (const double *a, const double *b, size_t n);
	void		(*axpy) (double f, const double *x, double *y, size_t n);	/* y += f x */
	/* out = a b; n a multiple of 8. */
	void		(*times) (const double *a, const double *b, double *out, size_t n);
	/* Packed rows times l vectors, and their transpose; see kernels_dense.h. */
	void		(*project) (const float *x, int64_t groups, int d, const float *w, int l,
							float *y, size_t stride);
	void		(*project_back) (const float *x, int64_t groups, int d, int j0, int j1,
								 const float *y, size_t stride, double *z, int l);
	/* y = A x for the lower n x n symmetric part, and A -= v w' + w v'. */
	void		(*symv) (const double *a, int ld, int n, const double *x, double *y);
	void		(*syr2) (double *a, int ld, int n, const double *v, const double *w);

	/* Gradient boosting; boost.h tells what the arrays are, n is a multiple of 16. */
	void		(*boost_scan) (lrn_boost_scan *s, const int64_t *hist, int n_bins);
	void		(*boost_softmax) (const float *score, size_t stride, const double *base, int k, int64_t n,
								  float *top, float *inverse);
	void		(*boost_gradients) (const lrn_boost_rows *a, int64_t n, int32_t *pair);
	void		(*boost_losses) (const lrn_boost_rows *a, int64_t n, float *loss);
	void		(*boost_rows) (const lrn_model *m, const float *rows, int64_t n, float *out);

	/* k-means; see kernels_cluster.h. */
	void		(*kmeans_assign) (const float *x, int64_t groups, int d, const float *centre,
								  const float *half_norm, int kp, int32_t *label, float *score);
	void		(*kmeans_candidates) (const float *x, int64_t groups, int d, const float *candidate,
									  const float *closest, float *out, size_t stride);
	void		(*kmeans_rows) (const lrn_model *m, const float *rows, int64_t n, float *out);
	/* A row of the kernel matrix 2^-|x - z|^2; tiles as kernels_svm.h says. */
	void		(*rbf_row) (const float *tiles, int n_tiles, int d, const float *x, float *out);
	/*
	 * f[k] += step (ki[k] - kj[k]), then the row where up - f is largest, and
	 * the least low - f.  n: a multiple of LRN_TILE.
	 */
	void		(*smo_update) (double *f, const float *ki, const float *kj, double step,
							   const float *up, const float *low, int n, lrn_smo_best *best);
	/* The row of largest (top + f - low)^2 / (2 - 2 ki), -1 if none is above 0. */
	int			(*smo_pick) (const double *f, const float *ki, const float *low, double top, int n);
	void		(*smo_add) (double *f, const float *row, double c, int n);
	void		(*rbf_rows) (const lrn_model *m, const float *rows, int64_t n, float *out);
	/*
	 * Loss and gradient (d + 1, added to) of a linear machine's block: rows of
	 * the class cost positive, others negative, times their weight (or NULL).
	 */
	double		(*hinge_block) (float *const *col, int64_t first, int n, int d, const int32_t *y, int32_t class,
								const float *weight, double positive, double negative,
								const double *w, double b, double *grad, double *scratch);
	/* x.w, and w += c x; n: a multiple of 8, w 64-byte aligned. */
	double		(*row_dot) (const float *x, const double *w, size_t n);
	void		(*row_axpy) (double *w, const float *x, double c, size_t n);
	/* n rows of scores to probabilities, in place: calibrated, or by a softmax. */
	void		(*calibrate_rows) (const lrn_model *m, int64_t n, float *out);
	void		(*softmax_rows) (int k, int64_t n, float *out);

	void		(*knn_rows) (const lrn_model *m, const float *rows, int64_t n, float *out);

	/* Forest and linear prediction; see learn.h for shapes. */
	void		(*forest_rows) (const lrn_model *m, const float *rows, int64_t n, float *proba);
	void		(*linear_rows) (const lrn_model *m, const float *rows, int64_t n, float *out);
} lrn_kernels;

extern const lrn_kernels lrn_kernels_portable;
#if defined(__x86_64__)
extern const lrn_kernels lrn_kernels_avx2;
extern const lrn_kernels lrn_kernels_avx512;
#endif
/* AUTO and sets this processor lacks give the best one it has. */
extern const lrn_kernels *lrn_kernels_for(lrn_isa isa);

#endif							/* MILLRACE_LEARN_INT_H */

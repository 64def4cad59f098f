/*
 * features.h
 *	  What a trained model's numbers mean: the features of its specification.
 */
#ifndef MILLRACE_REGISTRY_FEATURES_H
#define MILLRACE_REGISTRY_FEATURES_H

#include "registry/registry.h"
#include "registry/train_data.h"

typedef enum reg_feature_type
{
	REG_FEATURE_NUMBER,
	REG_FEATURE_BOOLEAN,
	REG_FEATURE_CATEGORY,
	REG_FEATURE_ARRAY
} reg_feature_type;

/* A column of the query that the model was trained on, or of the rows that an
 * imported one takes. */
typedef struct reg_feature
{
	const char *name;
	reg_feature_type type;
	bool		one_hot;		/* a category as columns of 0 and 1 */
	int			first;			/* its first number */
	int			width;			/* numbers it has */
	int			n_values;		/* of a category: texts in order, */
	const char **value;
	const int32 *code;			/* and the number of each */
} reg_feature;

typedef struct reg_features
{
	int			n;
	reg_feature *feature;
} reg_features;

/* In the current context; NULL: the specification does not say.  Raises XX001
 * where it does not fit the model. */
extern reg_features *reg_features_of(const reg_model *m);

/* Numbers that a specification's features make up; 0: it has none, -1: they are
 * not what features look like. */
extern int64 reg_features_width(Jsonb *spec);

/* Number of a category; -1: the model was not trained with it. */
extern int	reg_feature_code(const reg_feature *f, const char *text);

/*
 * The columns of a matrix as the model takes them, matched by name (by position
 * where the specification says nothing): n_inputs vectors, those of categories
 * renumbered and new, in the current context; a category it does not know is
 * missing.  Raises 42703 for a column that is not there, 42804 for one of
 * another kind, 22023 for an array of another length.
 */
extern float *const *reg_map_matrix(const reg_model *m, const train_data *data);

#endif							/* MILLRACE_REGISTRY_FEATURES_H */

/*
 * registry.h
 *	  Models for the other rooms' glue: find one, run it, register a new one.
 *
 * A reference is 'name' (its champion, else its newest live version),
 * 'name@alias' or 'name:version'; NULL means the default of the task at hand.
 * A reg_model pointer stays good until the end of the transaction.  Weights are
 * mapped at the first run (core/mapfile_pg.h).  All of this only reads tables
 * that it scans itself: no SPI, no privilege of the caller, fine on a standby
 * and in parallel workers.
 */
#ifndef MILLRACE_REGISTRY_H
#define MILLRACE_REGISTRY_H

#include "core/compat.h"
#include "core/status.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* What a NULL reference stands for. */
typedef enum reg_task
{
	REG_DESCRIBE,				/* millrace.descriptor_model */
	REG_CLASSIFY,				/* millrace.classifier */
	REG_ENCODE,					/* millrace.text_encoder */
	REG_DETECT,					/* millrace.detector */
	REG_ANY						/* as the first; a model of any kind will do */
} reg_task;

/* What a model is: a network, the lrn_algorithm that made it, or a kind that another room has brought (kind.h). */
typedef int reg_kind;
#define REG_ONNX 0
#define REG_ROOM 1000

/* One version.  Read-only for everybody outside this room. */
typedef struct reg_model
{
	const char *name;
	int			version;
	const char *reference;		/* "name:version" */
	text	   *reference_text; /* the same as a datum */
	reg_kind	kind;
	uint8		sha256[32];		/* of the bytes */
	int			n_inputs;		/* numbers per input row */
	int			n_outputs;		/* numbers per answer: descriptors or classes */
	int			n_labels;		/* 0: not a classifier */
	const char *const *labels;
	text	  **label_texts;	/* the same as datums */
	struct reg_loaded *loaded;	/* this room's own */
} reg_model;

/*
 * Resolve a reference as the current statement's snapshot sees it.  Raises
 * 42704 when there is no such model (or it was dropped), 22023 when the
 * reference is malformed or the model is not for that task: encoders are for
 * none but REG_ENCODE, and that is for nothing else.  Costs a hash probe unless an alias or a version
 * changed since the last call.
 */
extern const reg_model *reg_resolve(const char *reference, reg_task task);

/*
 * The same for a SQL function's argument, remembered in flinfo->fn_extra: one
 * statement keeps one version even when somebody promotes another meanwhile.
 * fn_extra belongs to this call then.
 */
extern const reg_model *reg_resolve_arg(FunctionCallInfo fcinfo, int argno, reg_task task);

/* The same for who keeps more in fn_extra: *memory is NULL at first, then in cxt. */
extern const reg_model *reg_resolve_site(void **memory, MemoryContext cxt, text *reference, reg_task task);

/*
 * Descriptors of an encoded image: decode and resize by the model's spec, run,
 * project if the model is a PCA with a backbone.  out takes n_outputs floats.
 * A bad image returns its failure in st; whatever is wrong with the model or
 * the system raises.  Cancel raises.
 */
extern mr_code reg_extract(const reg_model *model, const uint8 *image, size_t size,
						   float *out, mr_status *st);

/*
 * Class probabilities of n rows of d numbers, row-major; NaN is a missing
 * value where the classifier allows it.  proba takes n * n_labels floats.
 * Raises 22023 when the model is no classifier or d is not its n_inputs.
 */
extern void reg_class_probabilities(const reg_model *model, const float *rows,
									int64 n, int d, float *proba);

/* The same reduced to the likeliest class and its probability per row. */
extern void reg_classify(const reg_model *model, const float *rows, int64 n, int d,
						 int32 *label, float *confidence);

/*
 * The numbers of a real[] as they lie in the datum, or a palloc'd copy in which
 * NaN stands for NULL.  Raises 22004 for NULL and 22023 for NaN when finite is
 * asked; 22023 for infinity and for more than max_dims dimensions.
 */
extern const float *reg_floats(ArrayType *array, int max_dims, bool finite, const char *what,
							   int64 *rows, int *columns);

/* A new real[] of one dimension, and where its n numbers go. */
extern ArrayType *reg_new_reals(int n, float **values);

/* A new version, to be registered in the current transaction. */
typedef struct reg_parent
{
	const char *name;
	int			version;
	const char *role;			/* "backbone", "descriptors_of" */
} reg_parent;

typedef struct reg_new
{
	const char *name;
	const void *bytes;			/* canonical bytes: ONNX, learn's model, a room's;
								 * they tell kind, n_inputs and n_outputs */
	size_t		size;
	Jsonb	   *spec;			/* NULL: {} */
	ArrayType  *labels;			/* text[], NULL: spec's, if any */
	Jsonb	   *metrics;		/* NULL: {} */
	Jsonb	   *training;		/* NULL: not trained here */
	const char *origin;			/* "import", "train", "shipped" */
	const reg_parent *parents;
	int			n_parents;
} reg_new;

/*
 * Check the bytes and the spec, then write the version's row, bytes and lineage
 * as the owner of the registry
 * (callers have checked that the function's user may: EXECUTE on it is the
 * right).  A spec.backbone is pinned to its version and becomes a parent by
 * itself.  created_by is the current user.  Returns the version number.
 * Raises the bytes' and the spec's errors (22023, 0A000, 54000).
 * Serialises with other registrations of the same name until commit.
 */
extern int	reg_register(const reg_new *model);

#endif							/* MILLRACE_REGISTRY_H */

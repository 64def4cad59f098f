/*
 * model.h
 *	  The registry's own view of a cached model: specification, mapped weights.
 */
#ifndef MILLRACE_REGISTRY_MODEL_H
#define MILLRACE_REGISTRY_MODEL_H

#include "core/series_pg.h"
#include "image/image.h"
#include "learn/learn.h"
#include "nn/nn.h"
#include "registry/catalog_pg.h"
#include "registry/kind.h"
#include "registry/registry.h"

/* millrace.models.spec, understood. */
typedef struct reg_spec
{
	bool		has_input;		/* there is an "input" object */
	bool		has_channels;	/* "input" says rgb, bgr or grey */
	bool		has_fit;		/* "input" says how images are fitted */
	bool		has_pad;		/* "input" says the grey of a letterbox */
	bool		has_size;		/* "input" says width and height */
	img_prep	prep;			/* width, height 0: as the network's input */
	const char *output;			/* NULL: the first output */
	const char *backbone;		/* NULL, or a reference */
	nn_task		task;			/* of a network over rows of numbers */
	nn_dtype	precision;		/* of a network: nn_float32 or nn_bfloat16 */
	ArrayType  *labels;			/* NULL: none given */
	int			n_classes;		/* of shapes: the network's compiled plans */
	nn_class   *classes;
	const char *shapes;			/* the same as text, "" if the spec says nothing */
} reg_spec;

/* Plans beyond the first that a session keeps open of a model. */
#define REG_MAX_PLANS 16

typedef struct reg_plan
{
	char	   *class;			/* as text */
	bool		own;			/* not in the model's file: */
	uint8		key[32];		/* in that map */
	uint64		used;
	nn_model	nn;
} reg_plan;

/* What a session did with a model and has not yet told: stats_pg.c. */
typedef struct reg_counts
{
	uint64		calls;
	uint64		rows;
	uint64		ns;				/* of runs alone */
	uint64		cpu_ns;			/* the same in CPU time */
	uint64		errors;			/* calls that ended with one */
	uint64		peak_work;		/* most bytes of work memory of a run */
	uint64		loads;			/* maps; all other calls found it mapped */
	uint64		builds;			/* of which compiled here */
} reg_counts;

/* What a session keeps of a model; the weights are all sessions' (mapfile). */
typedef struct reg_loaded
{
	MemoryContext cxt;			/* holds the reg_model and all that it points to */
	uint64		spec_hash;
	reg_spec	spec;
	bool		dead;			/* dropped: forgotten at the end of the transaction */
	bool		mapped;
	uint8		key[32];		/* of the map */
	nn_isa		isa;			/* what the map was compiled for */
	nn_model	nn;				/* REG_ONNX */
	int			output;			/* index of the output that is the answer */
	lrn_model	lrn;			/* learners */
	void	   *parsed;			/* a room's kind: its specification, understood; */
	void	   *opened;			/* what its open() made of the map */
	const reg_model *backbone;	/* LRN_PCA with spec.backbone */
	reg_counts	counts;
	uint64		bucket[MR_BUCKETS];	/* timed calls by how long they took, each as often as its weight: for metrics */
	int			timed;			/* weight of the run at hand; 0: not timed */
	const uint8 *file;			/* the map */
	uint64		file_bytes;
	int			n_plans;		/* beside nn */
	reg_plan	plans[REG_MAX_PLANS];
	struct reg_loaded *next;	/* all of them */
} reg_loaded;

/* ---- spec_pg.c ---- */

/* Understand a specification; strings are in the current context.  Raises
 * 22023 for what it does not know or cannot mean. */
extern void reg_spec_parse(Jsonb *spec, reg_spec *out);

/* Fill in what the network's first input decides, and check the rest against
 * it.  Raises 22023. */
extern void reg_spec_complete(reg_spec *spec, const nn_tensor_info *input);

extern const char *reg_task_name(nn_task task);

/* The same text with "key" set to value. */
extern Jsonb *reg_jsonb_set_text(Jsonb *object, const char *key, const char *value);

/* A text member of an object; NULL if absent or null.  Raises 22023 if it is
 * something else. */
extern char *reg_jsonb_text(JsonbContainer *object, const char *key, const char *where);

/* ---- kind_pg.c ---- */

extern const char *reg_kind_name(reg_kind kind);
extern bool reg_kind_by_name(const char *name, reg_kind *kind);
extern bool reg_kind_by_bytes(const void *bytes, size_t size, reg_kind *kind);	/* rooms' only */
extern const reg_room_kind *reg_room_kind_of(reg_kind kind);	/* NULL: ours */
extern const reg_room_kind *reg_kind_of_files(void);	/* of models of several files; NULL: none */

/* Raises 22023 unless the model is for that task. */
extern void reg_check_task(const reg_model *model, reg_task task);

/* ---- resolve_pg.c ---- */

/* "name", "name@alias", "name:version" taken apart: alias empty, version 0 if
 * absent.  Raises 22023. */
typedef struct reg_reference
{
	char		name[REG_NAME_SIZE];
	char		alias[REG_NAME_SIZE];
	int			version;
} reg_reference;
extern void reg_parse_reference(const char *text, reg_reference *out);

/* Raises 22023 unless the text can name a model ("model name") or an alias. */
extern void reg_check_name(const char *name, const char *what);

/* The cached model of a row, made if new. */
extern reg_model *reg_model_of_row(const reg_row *row);

extern void reg_resolve_init(void);

/* ---- load_pg.c ---- */

/* All stored bytes of a model, in the current context; raises 42704 where they are gone. */
extern void reg_model_bytes(const reg_model *model, Snapshot snapshot, uint8 **bytes, size_t *size);

/* Map the weights (compiling them when no file exists) and open them. */
extern void reg_load(const reg_model *model);

/* Forget the map of a model; the file too if it was dropped. */
extern void reg_unload(reg_loaded *loaded);

/* Remove the compiled files of bytes that are gone. */
extern void reg_discard_files(const uint8 sha256[32]);

/* Map a file of one more class of shapes; text: what it is, part of the key. */
extern const void *reg_map_class(const reg_model *model, const nn_class *class, const char *text,
								 uint8 key[32], size_t *len);

/* ---- class_pg.c ---- */

/* The member "shapes" of a specification.  Raises 22023. */
extern void reg_parse_shapes(const JsonbValue *v, reg_spec *out);

/* The class of an image's size, for networks that leave it open. */
extern void reg_image_class(reg_spec *spec);

/* The class of a table of so many columns as the specification's features are,
 * likewise.  Raises 22023. */
extern void reg_features_class(Jsonb *json, reg_spec *spec);

/*
 * The plan of a network that reg_load() has mapped for inputs of these shapes
 * (rank -1: not said), whose first dimensions may be a batch: then *batch is
 * set, else 1.  Compiled when it is asked for the first time.  NULL: the model
 * does not take them, as its fixed dimensions say.  Good until the next call.
 */
extern const nn_model *reg_find_plan(const reg_model *model, int n, const nn_shape *shapes, int *batch);

/* Forget all plans but the first. */
extern void reg_forget_plans(reg_loaded *loaded);

/* ---- memory_pg.c ---- */

/* reg_scratch() is in kind.h. */

/* What the last reg_scratch() was asked for, since this was called. */
extern size_t reg_scratch_taken(void);
extern void reg_scratch_end_of_transaction(void);

/* ---- stats_pg.c ---- */

/* reg_stat_ask(), reg_stat_start() and reg_stat_end() are in kind.h. */

/* From the end of a transaction that failed; and for an input that is no good. */
extern void reg_stat_failed(void);

/* Add a model's counts to shared memory. */
extern void reg_stat_flush(const reg_model *model);
extern void reg_stat_init(void);

extern void reg_sha256(const void *data, size_t size, uint8 out[32]);

#endif							/* MILLRACE_REGISTRY_MODEL_H */

/*
 * kind.h
 *	  Kinds of models that another room brings: what the registry calls of it,
 *	  and what of the registry it may call beyond registry.h.
 *
 * Such a model is stored, compiled, mapped, versioned and counted as any other;
 * only the functions of its room run it.
 */
#ifndef MILLRACE_REGISTRY_KIND_H
#define MILLRACE_REGISTRY_KIND_H

#include "nn/nn.h"
#include "registry/registry.h"

/* One file of a model that consists of several. */
typedef struct reg_file
{
	const char *name;
	const void *data;
	size_t		size;
} reg_file;

/* What the bytes of a new version are.  spec and metrics come as the caller of
 * the import gave them and are stored as they are left. */
typedef struct reg_found
{
	int			n_inputs;
	int			n_outputs;
	Jsonb	   *spec;
	Jsonb	   *metrics;
} reg_found;

/*
 * The functions run in the current memory context and may raise; those that
 * return an mr_code leave their failure in st instead.  parsed is what parse()
 * made of the specification and lives as long as the cached model.
 */
typedef struct reg_room_kind
{
	const char *name;			/* in millrace.models.kind */
	reg_task	task;			/* the only one that it is good for */
	const char *does;			/* "encodes texts": what messages say of it */
	const char *hint;			/* for who asks something else of it */

	/* By the first bytes. */
	bool		(*claims) (const void *bytes, size_t size);

	/* Files of one model as bytes that claims() knows; *bytes is palloc'd.
	 * NULL: no model of this kind has several. */
	void		(*bundle) (const reg_file *files, int n, void **bytes, size_t *size);

	/* Understand a specification: palloc'd, all of it.  Raises 22023. */
	void	   *(*parse) (Jsonb *spec);

	/* All that can be wrong with new bytes, and what they are. */
	void		(*check) (const void *bytes, size_t size, const void *parsed, reg_found *found);

	/* Whatever decides the compiled bytes beside the source: palloc'd. */
	char	   *(*key) (const void *parsed, nn_isa isa);

	/* *out is allocated in env, 64-byte aligned. */
	mr_code		(*compile) (const mr_env *env, const void *bytes, size_t size, const void *parsed, nn_isa isa,
							void **out, size_t *out_len, mr_status *st);

	/* Views into compiled bytes, into opened_size zeroed bytes.  MR_CORRUPT: compile again. */
	size_t		opened_size;
	mr_code		(*open) (const reg_model *model, const void *parsed, const void *file, size_t len, void *opened,
						 mr_status *st);
} reg_room_kind;

/* From a room's init(); kind must live for ever.  Its name must also stand in
 * models_kind_check (tables.sql). */
extern void reg_add_kind(const reg_room_kind *kind);

/* What open() made, the weights being mapped; good until the end of the
 * transaction.  The model must be of the kind. */
extern const void *reg_open_kind(const reg_model *model, const reg_room_kind *kind);

/* ---- memory_pg.c ---- */

/* Work memory of this backend, 64-byte aligned, valid until the next call and
 * not beyond the transaction.  Raises 54000 past millrace.max_model_memory. */
extern void *reg_scratch(size_t size);

/* ---- stats_pg.c ---- */

/* A call has asked for a model: if its transaction ends before reg_stat_end(),
 * that is an error of the model's. */
extern const reg_model *reg_stat_asked;
static inline void
reg_stat_ask(const reg_model *model)
{
	reg_stat_asked = model;
}

/* Before and after a run of rows; a few nanoseconds. */
extern void reg_stat_start(const reg_model *model, int64 rows);
extern void reg_stat_end(const reg_model *model, int64 rows);

#endif							/* MILLRACE_REGISTRY_KIND_H */

/*
 * catalog_pg.h
 *	  Reading the registry's tables without SPI.
 *
 * Inference must resolve a model in microseconds, in parallel workers, for
 * roles without a privilege on the tables: index scans by the primary keys, as
 * the server reads its own catalogues.  Nothing here writes.
 */
#ifndef MILLRACE_REGISTRY_CATALOG_PG_H
#define MILLRACE_REGISTRY_CATALOG_PG_H

#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#define REG_NAME_SIZE 129		/* longest name or alias, with the NUL */

/* A row of millrace.models; allocated in the current context. */
typedef struct reg_row
{
	char	   *name;
	int			version;
	char	   *kind;
	uint8		sha256[32];
	Jsonb	   *spec;
	ArrayType  *labels;			/* NULL: none */
	int			n_inputs;
	int			n_outputs;
	bool		retired;
	TimestampTz retired_at;
} reg_row;

/* A table or an index of schema millrace; 42P01 where there is none. */
extern Oid	reg_relation_oid(const char *relation);

/* OIDs of millrace.models and millrace.model_aliases. */
extern Oid	reg_models_oid(void);
extern Oid	reg_aliases_oid(void);

/* The version; false if there is none. */
extern bool reg_read_version(const char *name, int version, Snapshot snapshot, reg_row *row);

/* The newest version that is not retired; *any tells whether the name exists. */
extern bool reg_read_newest(const char *name, Snapshot snapshot, reg_row *row, bool *any);

/* The version an alias stands for; 0 if there is no such alias. */
extern int	reg_read_alias(const char *name, const char *alias, Snapshot snapshot);

/* All bytes of a content; *bytes is in the current context.  False: none. */
extern bool reg_read_bytes(const uint8 sha256[32], Snapshot snapshot, uint8 **bytes, size_t *size);

#endif							/* MILLRACE_REGISTRY_CATALOG_PG_H */

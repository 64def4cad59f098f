/*
 * row.h
 *	  The target's columns as target_pg.c makes them and row_pg.c fills them.
 */
#ifndef MILLRACE_STREAM_ROW_H
#define MILLRACE_STREAM_ROW_H

#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/queryenvironment.h"

#include "stream/worker/source.h"

typedef enum kfk_property
{
	KFK_NO_PROPERTY,
	KFK_SOURCE,
	KFK_TOPIC,
	KFK_PARTITION,
	KFK_OFFSET,
	KFK_TIME,
	KFK_KEY
} kfk_property;

typedef struct kfk_column
{
	char	   *name;
	char	   *key;			/* of the message's field */
	kfk_property property;		/* or this, and no key */
	Oid			type;
	Oid			base;			/* type itself, or what the domain is over */
	int32		typmod;			/* of the base type */
	Oid			collation;
	bool		domain;
	void	   *domain_cache;
	bool		not_null;		/* NULL is refused before the INSERT would */
	kfk_kind	kind;
	FmgrInfo	input;			/* of the base type */
	Oid			ioparam;
	Oid			element;		/* of KFK_TEXT_ARRAY */
	int16		element_len;
	bool		element_byval;
	char		element_align;
	FmgrInfo	element_input;
	Oid			element_ioparam;
	char	   *default_sql;	/* not NULL: used where the key is absent */
	int			flag;			/* then: position of the flag "it was given" */
} kfk_column;

struct kfk_target
{
	MemoryContext cxt;
	Oid			relation;
	uint64		version;
	kfk_column *columns;
	int			n_columns;
	kfk_field  *fields;			/* the keys to decode ... */
	int		   *field_column;	/* ... and their columns */
	int			n_fields;
	int		   *positions;		/* csv: the field at each place of a line, -1 none */
	int			n_positions;
	int			width;			/* columns and flags */
	TupleDesc	desc;			/* of the batch relation */
	EphemeralNamedRelation batch;
	char	   *sql;
	SPIPlanPtr	plan;
};

#endif							/* MILLRACE_STREAM_ROW_H */

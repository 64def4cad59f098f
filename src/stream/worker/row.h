/*
 * row.h
 *	  The target's columns as target_pg.c makes them and row_pg.c fills them.
 */
#ifndef MILLRACE_STREAM_ROW_H
#define MILLRACE_STREAM_ROW_H

#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/resowner.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"

#include "stream/select.h"
#include "stream/worker/source.h"

typedef enum kfk_property
{
	KFK_NO_PROPERTY,
	KFK_SOURCE,
	KFK_TOPIC,
	KFK_PARTITION,
	KFK_OFFSET,
	KFK_TIME,
	KFK_KEY,
	KFK_HEADERS
} kfk_property;

typedef struct kfk_column
{
	char	   *name;
	char	   *key;			/* of the message's field */
	kfk_property property;		/* or this, and no key */
	bool		in_primary;		/* a column of the primary key */
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

/* Tuples of an ephemeral relation: columns, flags of those with defaults, then maybe place and deleted. */
typedef struct kfk_shape
{
	kfk_column *columns;
	int			n_columns;
	int			place;			/* position of "place" (int8: where the row came in the batch), -1: none; "deleted" is behind it */
	int			width;
	TupleDesc	desc;
	EphemeralNamedRelation enr;
} kfk_shape;

struct kfk_target
{
	MemoryContext cxt;
	Oid			relation;
	uint64		version;
	kfk_shape	in;				/* what messages are decoded into */
	kfk_shape  *out;			/* what the INSERT takes */
	const kfk_format *format;	/* of values */
	bool		whole;			/* a value is one field, whatever it holds */
	kfk_field  *fields;			/* what is decoded from a message's value ... */
	int		   *field_column;	/* ... into these columns of in */
	int			n_fields;
	int		   *positions;		/* csv: the field at each place of a line, -1 none */
	int			n_positions;
	kfk_field  *key_fields;		/* what is decoded from its key ... */
	int		   *key_field_column;	/* ... into these columns of out */
	int			n_key_fields;
	SPIPlanPtr	insert;
	SPIPlanPtr	delete;			/* of the keys of tombstones; NULL: not wanted */

	/* With option transform: in and out differ, and this leads from one to the other. */
	SPIPlanPtr	transform;
	kfk_select *select;			/* it is this one, or, NULL, ... */
	Oid			function;
	Oid			argument;		/* type of the function's argument */
	Oid			argument_relation;	/* relation behind it, or behind the SELECT's message, if that is a row */
	Tuplestorestate *transformed;	/* rows of the transaction at hand */
};

/* What decoding a batch works with. */
typedef struct kfk_work
{
	kfk_target *target;
	const kfk_source *source;
	MemoryContext cxt;
	ResourceOwner owner;
	bool		protected;		/* in the subtransaction */
	kfk_stage	stage;			/* what a fault would be in */
	kfk_value  *values;
	kfk_value  *key_values;
} kfk_work;

/* Decoded bytes, which have room before them, as a varlena. */
static inline Datum
kfk_varlena(char *data, size_t len)
{
	char	   *start = data - VARHDRSZ;

	SET_VARSIZE(start, VARHDRSZ + len);
	return PointerGetDatum(start);
}

/* row_pg.c */
extern void kfk_protect(kfk_work *w);	/* before anything that may raise an error */

/* value_pg.c */
extern char *kfk_server_text(kfk_work *w, char *data, size_t *len);
extern Datum kfk_convert(kfk_work *w, kfk_column *c, kfk_value *v);
extern Datum kfk_from_text(kfk_work *w, kfk_column *c, const char *text);

/* property_pg.c */
extern Datum kfk_property_of(kfk_work *w, kfk_column *c, const kfk_message *m, bool *null);

/* map_pg.c */
extern Bitmapset *kfk_target_key(const kfk_source *source, Relation rel);
extern void kfk_map_target(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary);

/* transform_pg.c */
extern void kfk_find_transform(kfk_target *target, const kfk_source *source, Relation rel, const Bitmapset *primary);

/* target_pg.c */
extern int64 kfk_put_rows(Tuplestorestate *store, const kfk_shape *shape, const kfk_item *items, int n, bool deletes, bool rows, int64 *deleted);

/* hint_pg.c */
extern void kfk_learn_reject(const kfk_target *target, const kfk_item *items, int n, int at);
extern bool kfk_is_suspect(const kfk_target *target, const kfk_item *item, bool went_well);

/* statement_pg.c */
extern char *kfk_insert_sql(const kfk_target *target, const kfk_source *source, Relation rel);
extern char *kfk_transform_sql(const kfk_target *target, Relation rel);
extern char *kfk_delete_sql(const kfk_target *target, Relation rel);

#endif							/* MILLRACE_STREAM_ROW_H */

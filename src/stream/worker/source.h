/*
 * source.h
 *	  What the files of a source worker share.
 *
 * One worker, one source, some of its partitions:
 *	source_main_pg.c  life of the process: open, loop, close
 *	take_pg.c		  messages taken from the client, sifted, let go of
 *	settings_pg.c	  the sources row and what its options mean
 *	claim_pg.c		  partitions claimed, fenced and reported on
 *	target_pg.c		  the target, locked and up to date, and rows into it
 *	transform_pg.c	  option transform: rows made of messages by a function or a SELECT (../select_pg.c)
 *	map_pg.c		  what of a message goes into which of its columns
 *	statement_pg.c	  the SQL that moves a batch
 *	row_pg.c		  a message as a row of it, its values (value_pg.c), its properties (property_pg.c)
 *	batch_pg.c		  one transaction for a run of messages
 *	isolate_pg.c	  errors: retried, or narrowed down to a dead letter
 *	pieces_pg.c		  narrowed down within a transaction, where they are frequent
 *	hint_pg.c		  what rejected messages had in common
 *	dead_pg.c		  rows of dead_letters: written, and redriven
 *	letter_topic_pg.c option dead_letter_topic: copies of them, through the outbox
 *	quota_pg.c		  how many there may be before the source halts
 *	schemas_pg.c	  Avro schemas
 *	registry_pg.c	  those that a schema registry has
 *	group_pg.c		  offsets of a consumer group, for monitoring tools
 *	share_pg.c		  partitions shared with other servers, with the files of share.h
 *	held_pg.c		  messages behind a Kafka transaction that is open
 *	gauge_pg.c		  how far behind it is, and the memory it takes, for all to see
 *	replay_pg.c		  replays: where they end, and that they are over
 */
#ifndef MILLRACE_STREAM_SOURCE_H
#define MILLRACE_STREAM_SOURCE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "storage/itemptr.h"
#include "utils/elog.h"
#include "utils/palloc.h"

#include "core/process_pg.h"
#include "stream/worker/format.h"
#include "stream/worker/kafka.h"

/* What becomes of a message without a value. */
typedef enum kfk_tombstones
{
	KFK_SKIP,
	KFK_DEAD_LETTER,
	KFK_DELETE					/* the row of its key is deleted */
} kfk_tombstones;

/* A row whose key is there already. */
typedef enum kfk_conflict
{
	KFK_REFUSE,					/* an error, hence a dead letter */
	KFK_UPDATE,
	KFK_NOTHING
} kfk_conflict;

/* A row of millrace.sources, with its options as numbers. */
typedef struct kfk_source
{
	MemoryContext cxt;			/* its strings; reset when it is loaded again */
	char	   *name;
	char	   *server;
	char	   *topic;
	char	   *target;
	char	   *owner;
	char	   *cluster_id;		/* NULL before the first claim */
	int64		generation;
	TimestampTz created_at;		/* tells it from one of its name that was dropped; 0 before it is loaded */
	int			partitions;		/* of the topic when first seen, 0 before that */
	int			worker;			/* we are this one */
	int			workers;		/* of so many in force; not more than worker: we stand by */
	const kfk_format *format;
	kfk_format_options format_options;
	List	   *header;			/* names of the fields of a line, of option header */
	List	   *columns;		/* key, column name, ... of option columns */
	const kfk_format *key_format;	/* how the message's key becomes the primary key; NULL: it does not */
	char	   *transform;		/* between messages and target: a function, "s.f(s.type)", or a SELECT; or NULL */
	char	   *message_type;	/* what the SELECT's message is; NULL: the target's columns */
	bool		refuse_unknown;
	kfk_tombstones tombstones;
	kfk_conflict on_conflict;
	int			batch_rows;
	int64		batch_bytes;
	int			batch_ms;
	int			batch_timeout_ms;
	int64		max_message_bytes;
	int64		memory;			/* this worker may take */
	int			max_dead_percent;	/* of the last ... */
	int			dead_window;	/* ... messages */
	int64		max_dead_letters;	/* PG_INT64_MAX: any number; so the next two */
	int64		max_dead_letter_bytes;	/* keys and values */
	int64		dead_letter_value_bytes;	/* larger values are not kept */
	char	   *dead_letter_topic;	/* copies of letters go there; NULL: nowhere */
	char	   *dead_letter_server;	/* NULL: the source's */
	int64		start;			/* offset, or one of the three below */
	int64		start_ms;		/* KFK_START_TIME: milliseconds since 1970 */
	bool		replay;			/* of the partitions that have rows in source_offsets, up to where those say */
	bool		shared;			/* with other servers, by option partitions: ... */
	Bitmapset  *only;			/* ... these are ours */
	char	   *control_topic;	/* where they agree on that; NULL: nowhere */
	int			lease_ms;
	char	   *group;			/* consumer group that is told how far we are; NULL: none */
} kfk_source;

#define KFK_START_EARLIEST (-2)
#define KFK_START_LATEST (-1)
#define KFK_START_TIME (-3)

/* A partition we hold. */
typedef struct kfk_partition
{
	int32		partition;
	int64		epoch;
	int64		next_offset;	/* as committed: messages before it are done */
	int64		taken;			/* messages before it were taken from the client */
	int64		check_offset;	/* message to be compared with check_crc when it comes again; -1: none */
	uint32		check_crc;
	TimestampTz check_time;
	int64		high;			/* end of the partition, -1 unknown */
	TimestampTz held_since;		/* messages from held_at on are there and not to be had; 0: none */
	int64		held_at;
	int64		held_high;		/* end of the partition as written meanwhile */
	ItemPointerData version;	/* where its row of source_offsets was last */
	int64		end;			/* of a replay: offset not to be read any more; else PG_INT64_MAX */
	bool		left;			/* of a replay: its end was seen, no more is fetched */

	/* Of the transaction being made. */
	int64		new_offset;
	int64		rows;
	int64		bytes;
	int64		dead;
	int64		skipped;
	int64		deleted;
	bool		redriven;		/* dead letters of it are among the messages */
	int			last;			/* index of its last live message, -1 none */
} kfk_partition;

/* A row: the columns of the batch relation. */
typedef struct kfk_row
{
	struct kfk_row *next;		/* of the same message */
	Datum	   *values;
	bool	   *nulls;
} kfk_row;

/* What a message failed in, by the names of Kafka Connect's stages; see kfk_stage_names. */
typedef enum kfk_stage
{
	KFK_AT_VALUE,				/* its value, or a column made of it */
	KFK_AT_KEY,
	KFK_AT_TRANSFORM,
	KFK_AT_TARGET				/* the table, its constraints and triggers */
} kfk_stage;

/* A message on its way to being a row, or several. */
typedef struct kfk_item
{
	kfk_message message;
	kfk_partition *partition;
	int64		letter;			/* id of the dead letter that is redriven; 0: the message is live */
	uint64		version;		/* of the target that rows and fault are for; 0: not decoded */
	kfk_row    *rows;
	char	   *sqlstate;		/* not NULL: it is no row, for this reason */
	char	   *error;
	char	   *detail;
	bool		skipped;		/* a tombstone, or no row in it */
	bool		deletes;		/* a tombstone that deletes: its one row holds the key */
	bool		passed_over;	/* this time the transform made no row of it */
	bool		rejected;		/* the fault came from INSERT, not from decoding */
	kfk_stage	stage;			/* of the fault */
} kfk_item;

/* Messages taken from the client and not yet done, in the order they came. */
typedef struct kfk_taken
{
	kfk_item   *items;
	int			n;
	int			room;			/* of both arrays */
	kfk_message *fresh;			/* as the client hands them out */
	int64		bytes;			/* keys and values of items that are sifted */
	int64		likely_bytes;	/* of the next message; 0: unknown */
} kfk_taken;

/* How a slice of a batch ended. */
typedef enum kfk_outcome
{
	KFK_COMMITTED,
	KFK_BAD_DATA,				/* some message of the slice is at fault */
	KFK_TROUBLE,				/* nothing to do with the messages: try again later */
	KFK_FENCED,					/* a partition is no longer ours */
	KFK_FULL,					/* more letters than there may be: only fewer items may commit */
	KFK_GONE					/* the extension is being dropped or altered */
} kfk_outcome;

/* Why it did not end as committed. */
typedef struct kfk_failure
{
	ErrorData  *error;			/* KFK_BAD_DATA, KFK_TROUBLE: in the batch's context */
	kfk_stage	stage;			/* where it arose */
	int			fit;			/* KFK_FULL: so many items from the first on may commit */
} kfk_failure;

/* settings_pg.c */
extern bool kfk_load_source(kfk_source *source);	/* in a transaction; false: nothing to do here, end */
extern void kfk_server_settings(const char *server, kfk_settings *settings);	/* in a transaction */
extern kfk_client *kfk_open_server(const char *server, const char *group, int prefetch_kb);	/* in a transaction */
extern kfk_client *kfk_open_source(const kfk_source *source);	/* in a transaction */
struct kfk_registry;
extern void kfk_registry_of(const char *server, struct kfk_registry *registry);	/* in a transaction */
extern bool kfk_source_unchanged(const kfk_source *source, int *workers);

/* claim_pg.c */
extern bool kfk_claim(const kfk_source *source, kfk_client *client, kfk_partition **claimed, int *n, int *total,
					  char *error, size_t error_size);
extern bool kfk_follow(const kfk_source *source, kfk_client *client, const kfk_partition *partitions, int n, char *error, size_t error_size);
extern Bitmapset *kfk_my_partitions(const kfk_source *source);
extern bool kfk_start_of(const kfk_source *source, kfk_client *client, int partition, int64 *start, char *error, size_t error_size);
extern void kfk_evict(const kfk_source *source);
extern bool kfk_hold(const kfk_source *source, kfk_partition *partition);
extern bool kfk_fence(const kfk_source *source, kfk_partition *partition, const kfk_item *last);
extern void kfk_report(const kfk_source *source, const char *state, const char *sqlstate, const char *reason);
extern void kfk_stop(const kfk_source *source, const char *sqlstate, const char *reason) __attribute__((noreturn));
extern void kfk_halt(const kfk_source *source, const char *fmt,...) __attribute__((format(printf, 2, 3), noreturn));
extern TimestampTz kfk_time(int64 ms);
extern uint32 kfk_message_crc(const kfk_message *message);

/* target_pg.c */
typedef struct kfk_target kfk_target;
extern kfk_target *kfk_target_prepare(const kfk_source *source);	/* in a transaction: locked and up to date */
extern void kfk_target_transform(kfk_target *target, kfk_item *items, int n);
extern void kfk_target_insert(kfk_target *target, kfk_item *items, int n);

/* row_pg.c */
extern void kfk_target_decode(kfk_target *target, const kfk_source *source, kfk_item *items, int n, MemoryContext cxt);

/* batch_pg.c */
extern kfk_outcome kfk_run_slice(const kfk_source *source, kfk_partition *partitions, int n_partitions,
							 kfk_item *items, int n, bool in_pieces, MemoryContext cxt, kfk_failure *failure);

/* isolate_pg.c */
extern void kfk_reject(kfk_item *item, const kfk_failure *failure, MemoryContext cxt);
extern kfk_outcome kfk_batch(const kfk_source *source, kfk_partition *partitions, int n_partitions,
							 kfk_item *items, int n, MemoryContext cxt);

/* pieces_pg.c */
extern int	kfk_expect_rejects(int n, bool *in_pieces);
extern void kfk_note_failure(int n);
extern void kfk_note_good(int n);
extern void kfk_insert_in_pieces(const kfk_source *source, kfk_target *target, kfk_item *items, int n,
								 MemoryContext cxt, kfk_failure *failure);

/* schemas_pg.c */
extern const struct kfk_avro *kfk_schema(void *source, uint32 id);	/* in a transaction; NULL: not known */
extern bool kfk_schema_cached(uint32 id);
extern void kfk_store_schema(const char *server, uint32 id, const char *text);	/* in a transaction */

/* registry_pg.c */
extern bool kfk_know_schemas(const kfk_source *source, const kfk_item *items, int n);

/* held_pg.c */
extern char *kfk_held(const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n);

/* group_pg.c */
extern void kfk_follow_group(const kfk_source *source, kfk_client *client, const kfk_partition *partitions, int n);

/* dead_pg.c */
extern Datum kfk_bytea(const void *data, size_t len);
extern void kfk_add_headers(struct StringInfoData *out, const kfk_message *m);
extern void kfk_bury(const kfk_source *source, const kfk_item *item);
extern int	kfk_marked_letters(const kfk_source *source, kfk_partition *partitions, int n_partitions, kfk_item **items);
extern bool kfk_settle_letter(const kfk_item *item);
extern const char *const kfk_stage_names[];

/* letter_topic_pg.c */
extern void kfk_publish_letter(const kfk_source *source, const kfk_item *item);

/* quota_pg.c */
extern int	kfk_letters_allowed(const kfk_source *source, const kfk_item *items, int n);	/* in a transaction */
extern void kfk_note_letters(const kfk_source *source, const kfk_item *items, int n);	/* they are committed */
extern void kfk_check_rate(const kfk_source *source);	/* outside a transaction; may end the process */
extern void kfk_stop_full(const kfk_source *source) __attribute__((noreturn));

/* replay_pg.c */
extern void kfk_bound_replay(const kfk_source *source, int32 partition, int64 end);	/* in a transaction, within mr_spi_begin() */
extern bool kfk_cut_message(kfk_client *client, const kfk_source *source, kfk_partition *partition, kfk_message *message);
extern bool kfk_replay_over(const kfk_source *source, const kfk_partition *partitions, int n);

/* share_pg.c, lease_pg.c: with option control_topic */
extern bool kfk_share_open(const kfk_source *source, kfk_client *client, char *error, size_t error_size);
extern void kfk_share_close(void);
extern bool kfk_share_turn(const kfk_source *source, kfk_client *client, const kfk_partition *partitions, int n);
extern void kfk_share_listen(const kfk_source *source);
extern bool kfk_share_owns(int32 partition);
extern bool kfk_share_may_commit(const kfk_source *source, const kfk_partition *partitions, int n);
extern bool kfk_share_is_busy(void);
extern char *kfk_share_reason(void);

/* take_pg.c */
extern int	kfk_take_more(kfk_taken *taken, const kfk_source *source, kfk_client *client);
extern bool kfk_sift(kfk_taken *taken, int from, const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n_partitions,
					 bool *troubled);
extern int	kfk_next_batch(kfk_taken *taken, const kfk_source *source);
extern void kfk_let_go(kfk_taken *taken, int n);

/* source_main_pg.c */
extern void kfk_check_source(const kfk_source *source);	/* once a second; ends the process if it changed */

/* gauge_pg.c */
extern void kfk_gauge(const kfk_source *source, kfk_client *client, kfk_partition *partitions, int n_partitions);
extern void kfk_gauge_nothing(void);
extern void kfk_gauge_memory(void);

#endif							/* MILLRACE_STREAM_SOURCE_H */

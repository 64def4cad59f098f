# What a newcomer types.  Each installs what is missing, so none needs PostgreSQL to be there yet.

.PHONY: check check-full check-debian demo bench help
check:
	@tools/check $(T)
check-full:
	@tools/check --full $(T)
check-debian:
	@tools/check-debian $(SUITE)
demo:
	@tools/demo
help:
	@echo 'make demo                 photos through Kafka into predictions, on a private cluster under tmp/'
	@echo '     demo PHOTOS=folder   with other photos;  BROKERS=host:port: with a real Kafka;  KEEP=1: leave it running'
	@echo 'make check                build and run every test;  T="stream unit": only those with such a name'
	@echo 'make check-full           the same and the long ones'
	@echo 'make check-debian SUITE=trixie   build and regress suite in a fresh Debian of that name (root)'
	@echo 'make bench                side by side with the usual Python services'
	@echo 'make unit                 the server-less tests alone'
	@echo 'make, make install        as any extension (PG_CONFIG=... chooses the PostgreSQL)'
bench:
	@tools/bench $(B)

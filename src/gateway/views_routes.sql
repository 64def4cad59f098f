-- gateway: numbers of routes
--
-- Those of the extension have been made by now; users' begin here, so that a dump of them can be restored beside more of ours.

ALTER SEQUENCE millrace.routes_route_id_seq RESTART WITH 1000;

-- A moment in UTC, or null when the text is not one in ISO 8601: a day, or a day with a time. A time without a zone is
-- one in UTC. `+0000`, ` UTC` and a single digit of an hour, as several systems write them, mean what `+00:00` means.
-- The cast goes over the type with a zone: the one without drops the zone and keeps the hour.
CREATE MACRO parse_timestamp(cell) AS
    CASE
        WHEN regexp_full_match(
            strip(cell),
            '[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?( ?(Z|UTC|[+-][0-9]{2}(:?[0-9]{2})?))?)?'
        ) AND left(strip(cell), 4) <> '0000'
            THEN TRY_CAST(
                regexp_replace(
                    regexp_replace(
                        regexp_replace(strip(cell), '^(.{10})[ T]([0-9]):', '\1 0\2:'),
                        ' ?(Z|UTC)$', '+00:00'
                    ),
                    -- A zone without minutes has nothing after its hours.
                    '^(.{11}[^ ]+) ?([+-][0-9]{2})(:?([0-9]{2}))?$', '\1\2\4'
                ) AS TIMESTAMPTZ
            ) AT TIME ZONE 'UTC'
    END

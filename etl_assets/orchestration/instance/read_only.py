"""The webserver alone, which `etl-assets ui --read-only` becomes: Dagster's own, for any path of the instance."""

from dagster_webserver.cli import main

from etl_assets.orchestration.instance.opening import read_paths_literally

if __name__ == "__main__":
    read_paths_literally()
    main()  # type: ignore[no-untyped-call]

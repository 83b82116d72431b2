from mfs_deploy.cli import main

raise SystemExit(main())

"""Studies: whole questions answered with the engine, each one public function and one folder."""

from scaleinv._cli import run

run()

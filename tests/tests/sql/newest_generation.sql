SELECT p.last_generation FROM projection.projection AS p WHERE p.name = 'inventory'

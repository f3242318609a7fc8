SELECT p.live_generation FROM projection.projection AS p WHERE p.name = 'inventory'
